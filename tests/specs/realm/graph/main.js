// Walks all that a guest can reach from its global object: properties, symbols, getters and setters,
// prototypes. Getters of the runtime's own objects are called too; nothing of the runtime shows.
const sandbox = new V8Sandbox({ cpuLimitMs: 20_000 });

const walk = `
  const suspicious = /^(op_|__|Deno$|core$|ops$|primordials$|internals?$|bootstrap|ext:|stockade|process$|require$|eventLoop|loadExtScript|opNames|resources?$)/i;
  // In every realm of V8, and harmless.
  const known = new Set(["__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"]);
  const seen = new Set();
  const found = [];
  let functions = 0;
  const queue = [[globalThis, "globalThis"]];
  const add = (value, path) => {
    if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
    if (seen.has(value)) return;
    seen.add(value);
    queue.push([value, path]);
  };
  seen.add(globalThis);
  const pull = (from) => {
    for (let i = 0; i < from.length; i++) {
      const [value, path] = from[i];
      if (typeof value === "function") {
        functions++;
        const name = Object.getOwnPropertyDescriptor(value, "name")?.value;
        if (typeof name === "string" && suspicious.test(name) && !known.has(name)) found.push(path + " is " + name);
        const source = Function.prototype.toString.call(value);
        if (/\\bop_[a-z]/.test(source.slice(0, 60))) found.push(path + " reads " + source.slice(0, 60));
      }
      add(Reflect.getPrototypeOf(value), path + ".[[Prototype]]");
      for (const key of Reflect.ownKeys(value)) {
        const text = path + "." + String(key);
        if (typeof key === "string" && suspicious.test(key) && !known.has(key)) found.push(text);
        const property = Reflect.getOwnPropertyDescriptor(value, key);
        add(property.value, text);
        add(property.get, text + ".[[Get]]");
        add(property.set, text + ".[[Set]]");
        if (property.get) {
          let got;
          try { got = Reflect.apply(property.get, value, []); } catch { continue; }
          add(got, text + "()");
        }
      }
    }
  };
  // Objects that only calls give.
  const more = {
    generator: (function* () {})(), asyncGenerator: (async function* () {})(), asyncFunction: async () => {},
    regexpIterator: "a".matchAll(/a/g), mapIterator: new Map().entries(), error: new Error("x"),
    stream: new ReadableStream(), reader: new ReadableStream().getReader(), writable: new WritableStream(),
    transform: new TransformStream(), request: new Request("http://x/"), response: new Response("x"),
    headers: new Headers([["a", "b"]]).entries(), form: new FormData(), url: new URL("http://x/?a=b"),
    params: new URLSearchParams("a=b").entries(), pattern: new URLPattern({ pathname: "/:a" }),
    channel: new MessageChannel(), broadcast: new BroadcastChannel("x"), blob: new Blob(["x"]), file: new File([], "x"),
    fileReader: new FileReader(), signal: AbortSignal.timeout(1e9), controller: new AbortController(),
    event: new Event("x"), custom: new CustomEvent("x"), socket: new WebSocket("ws://x/"),
    compression: new CompressionStream("gzip"), encoder: new TextEncoder(), decoder: new TextDecoder(),
    encoderStream: new TextEncoderStream(), mark: performance.mark("x"), timer: setTimeout(() => {}, 1e9),
    memory: new WebAssembly.Memory({ initial: 0 }), promise: Promise.resolve(), error2: new DOMException("x"),
    arguments: (function () { return arguments; })(), caught: (() => { try { null.x; } catch (e) { return e; } })(),
    thrownByRuntime: (() => { try { new URL(""); } catch (e) { return e; } })(),
    thrownByOp: (() => { try { NETWORK.send(1); } catch (e) { return e; } })(),
    cloned: structuredClone({ a: new Map([[1, new Date()]]) }),
  };
  add(more, "more");
  pull(queue);
`;
const guest = await sandbox.createIsolate();
const result = await guest.evaluate(`(() => { ${walk} return { found, many: seen.size > 1000 && functions > 1000 } })()`);
// A Blob's parts are objects with an id: they read the isolate's own blobs (see `blob_parts`).
const aboutBlobs = (path) => path.startsWith("more.blob.Symbol(Parts)");
console.log("objects of the runtime:", result.found.filter((path) => !aboutBlobs(path)));
console.log("walked far:", result.many);

// What only the engine hands out: frames of a stack, and the arguments of callbacks.
const frames = await guest.evaluate(`(() => {
  const names = [];
  Error.prepareStackTrace = (error, sites) => {
    for (const site of sites) {
      const fn = site.getFunction?.(), self = site.getThis?.();
      if (fn !== undefined) names.push("function " + fn?.name);
      if (self !== undefined && self !== null && self !== globalThis) names.push("this " + Object.prototype.toString.call(self));
    }
    return "mine";
  };
  const run = (f) => { try { f(); } catch (error) { error.stack; } };
  run(() => new URL(""));
  run(() => NETWORK.send("x", { get a() { throw new Error("getter"); } }));
  run(() => NETWORK.send("x", { toJSON() { throw new Error("toJSON"); } }));
  run(() => structuredClone(() => {}));
  run(() => new Headers([["a b", "c"]]));
  run(() => new Request("http://x/", { get method() { throw new Error("method"); } }));
  delete Error.prepareStackTrace;
  return names;
})()`);
console.log("frames:", frames);
console.log("eval of hidden names:", await guest.evaluate(`
  ["Deno", "__bootstrap", "__stockade", "core", "ops", "primordials", "process", "require", "global", "__dirname", "internals"]
    .map((name) => { try { return typeof (0, eval)(name); } catch (error) { return error.name; } })`));
console.log("function constructor:", await guest.evaluate(`
  Object.getOwnPropertyNames(Function("return this")()).includes("Deno") || Function("return typeof Deno")()`));
console.log("import:", await guest.evaluate(`
  Promise.all(["ext:core/mod.js", "ext:core/ops", "ext:stockade_realm/boot.js", "file:///etc/passwd", "node:fs", "https://example.com/x.js", "data:text/javascript,1"]
    .map((name) => import(name).then(() => "loaded " + name, (error) => error.name)))`));
sandbox.shutdown();
