// structuredClone and postMessage refuse an object that is not a value, at any depth, and pass values.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const guest = await sandbox.createIsolate();
guest.execute(`
  globalThis.attempt = (value) => {
    try {
      const copy = structuredClone(value);
      return copy.constructor.name;
    } catch (error) {
      return error.name + " " + error.code + ": " + error.message;
    }
  };
`);
const refused = {
  abortController: "new AbortController()",
  abortSignal: "AbortSignal.abort()",
  crypto: "crypto",
  customEvent: "new CustomEvent('x', { detail: 1 })",
  event: "new Event('x')",
  eventTarget: "new EventTarget()",
  ofEventTarget: "new (class Bus extends EventTarget {})()",
  formData: "new FormData()",
  headers: "new Headers()",
  mark: "performance.mark('x')",
  request: "new Request('http://x/')",
  response: "new Response('x')",
  textEncoder: "new TextEncoder()",
  url: "new URL('http://x/')",
  urlPattern: "new URLPattern({ pathname: '/' })",
  global: "globalThis",
  inArray: "[[new Event('x')]]",
  inObject: "({ a: { b: new URL('http://x/') } })",
  inMap: "new Map([[1, new Headers()]])",
};
for (const [name, code] of Object.entries(refused)) console.log(name, await guest.evaluate(`attempt(${code})`));
console.log("key", await guest.evaluate(`crypto.subtle.generateKey({ name: "AES-GCM", length: 128 }, false, ["encrypt"]).then(attempt)`));
console.log("postMessage", await guest.evaluate(`(() => {
  const { port1 } = new MessageChannel();
  try {
    port1.postMessage({ a: new Event("x") });
    return "sent";
  } catch (error) {
    return error.name;
  } finally {
    port1.close();
  }
})()`));

const cloned = {
  blob: "new Blob(['x'])",
  file: "new File(['x'], 'y')",
  exception: "new DOMException('x', 'y')",
  plain: "({ a: [new Date(0), /x/g, new Map(), new Error('x')] })",
  own: "new (class Mine { a = 1 })()",
};
for (const [name, code] of Object.entries(cloned)) console.log(name, await guest.evaluate(`attempt(${code})`));
console.log("port", await guest.evaluate(`(() => {
  const { port1, port2 } = new MessageChannel();
  const copy = structuredClone({ port1 }, { transfer: [port1] });
  port2.close();
  return copy.port1 instanceof MessagePort;
})()`));
console.log("stream", await guest.evaluate(`(async () => {
  const stream = new Response("through").body;
  return await new Response(structuredClone(stream, { transfer: [stream] })).text();
})()`));
sandbox.shutdown();
