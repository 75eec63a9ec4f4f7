// Destroying an isolate in the middle of anything: it goes, and nothing else does.
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
});
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const neighbour = await sandbox.createIsolate();
const go = `NETWORK.send("going");`;
const activities = {
  nothing: go,
  loop: `${go} for (;;);`,
  microtasks: `${go} (function g() { Promise.resolve().then(g) })()`,
  timers: `setInterval(() => {}, 1); ${go}`,
  allocation: `${go} for (let all = []; ; all = all.slice(-1000)) all.push(new Uint8Array(1e5))`,
  regexp: `${go} /(a+)+$/.test("a".repeat(60) + "b")`,
  request: `NETWORK.request("hang"); ${go}`,
  sending: `${go} for (let n = 0; ; n++) NETWORK.send("many", n)`,
  large: `const bytes = new Uint8Array(8 << 20); ${go} for (;;) NETWORK.send("many", bytes)`,
  fetch: `fetch("http://x/").then((r) => r.text()); ${go}`,
  upload: `fetch("http://x/", { method: "POST", body: new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(1000)) } }) }); ${go}`,
  download: `fetch("http://x/").then(async (r) => { for await (const _ of r.body); }); ${go}`,
  socket: `const s = new WebSocket("ws://127.0.0.1:${server.addr.port}/"); s.onopen = () => { s.send("x"); ${go} }; s.onmessage = () => s.send("x")`,
  compression: `const c = new CompressionStream("gzip"); const w = c.writable.getWriter(); c.readable.pipeTo(new WritableStream()); (async () => { for (;;) await w.write(new Uint8Array(1e5)) })(); ${go}`,
  crypto: `(async () => { for (;;) await crypto.subtle.digest("SHA-256", new Uint8Array(1e5)) })(); ${go}`,
  wait: `${go} Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`,
  import: `import("slow"); ${go}`,
  getter: `NETWORK.send("x", { get a() { ${go} for (;;); } })`,
  collection: `globalThis.r = new FinalizationRegistry(() => {}); ${go} for (;;) r.register({}, 1)`,
};
for (const [name, code] of Object.entries(activities)) {
  const guest = await sandbox.createIsolate({ sharedArrayBuffer: true, modules: { slow: `await new Promise(() => {})` } });
  guest.onRequest("hang", () => new Promise(() => {}));
  guest.onRequest("fetch", () => new Response(new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(1000)) })));
  guest.allowWebSocket(() => true);
  guest.on("many", () => {});
  const events = [];
  guest.onSystem("terminated", ({ reason }) => events.push(reason));
  const gone = new Promise((resolve) => guest.onSystem("destroyed", ({ reason }) => resolve(events.push(reason))));
  const going = new Promise((resolve) => guest.on("going", resolve));
  guest.execute(code);
  await going;
  const waiting = setInterval(() => {}, 1000);
  guest.destroy();
  await gone;
  clearInterval(waiting);
  console.log(name, events, await neighbour.evaluate("6 * 7"));
}
// And at once, before it did anything.
const early = await sandbox.createIsolate();
early.execute("for (;;);");
early.destroy();
console.log(sandbox.isolateCount());
sandbox.shutdown();
await server.shutdown();
