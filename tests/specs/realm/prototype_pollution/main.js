// Replaced prototypes and globals in a guest: its messages still go, what they say stays its own
// affair, and the host and its system events are untouched.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000, requestTimeoutMs: 20_000 });
const thrower = `() => { throw new Error("polluted") }`;
const attacks = {
  none: ``,
  "Object.prototype setters": `for (const key of ["id", "json", "data", "event", "marked", "kind", "resolve", "reject", "timer", "then", "status", "headers", "body", "url", "method", "value", "done", "get", "set", "writable", "message", "stack", "name", "signal", "bytes", "cause", "ok", "size", "type", "0"]) {
    Object.defineProperty(Object.prototype, key, { __proto__: null, configurable: true, set() { throw new Error("polluted " + key) }, get() { return undefined } }); }`,
  "Object.prototype values": `for (const key of ["id", "json", "data", "marked", "kind", "timer", "toJSON0", "enumerable", "configurable", "signal", "size", "type", "cancelable", "detail", "clamp"]) Object.prototype[key] = 666;`,
  "Object.prototype getters that throw": `for (const key of ["id", "json", "marked", "kind", "timer", "resolve", "cause", "signal", "prototype"]) Object.defineProperty(Object.prototype, key, { configurable: true, get: ${thrower}, set(v) { Object.defineProperty(this, key, { value: v, writable: true, configurable: true, enumerable: true }) } });`,
  "Array.prototype index": `for (const i of [0, 1, 2]) Object.defineProperty(Array.prototype, i, { configurable: true, set: ${thrower}, get: ${thrower} });`,
  "Array.prototype methods": `for (const key of ["push", "pop", "shift", "map", "forEach", "slice", "splice", "concat", "join", "indexOf", "includes", Symbol.iterator]) Array.prototype[key] = ${thrower};`,
  "iterators": `for (const it of [[][Symbol.iterator](), new Map().entries(), new Set().values(), ""[Symbol.iterator]()]) Object.getPrototypeOf(it).next = ${thrower}; Array.prototype[Symbol.iterator] = Map.prototype[Symbol.iterator] = Set.prototype[Symbol.iterator] = ${thrower};`,
  "Promise": `Promise.prototype.then = Promise.prototype.catch = Promise.prototype.finally = ${thrower}; Promise.resolve = Promise.reject = Promise.all = ${thrower}; Object.defineProperty(Promise, Symbol.species, { get: ${thrower} }); Promise.prototype.constructor = ${thrower}; globalThis.Promise = ${thrower};`,
  "JSON": `JSON.parse = JSON.stringify = ${thrower}; globalThis.JSON = undefined;`,
  "Map and Set": `for (const P of [Map.prototype, Set.prototype, WeakMap.prototype]) for (const key of ["get", "set", "has", "delete", "add"]) P[key] = ${thrower}; globalThis.Map = globalThis.Set = undefined;`,
  "Function.prototype": `Function.prototype.call = Function.prototype.apply = Function.prototype.bind = ${thrower}; Function.prototype[Symbol.hasInstance];`,
  "Reflect and Object": `for (const key of Reflect.ownKeys(Reflect)) if (typeof Reflect[key] === "function") Reflect[key] = ${thrower}; for (const key of ["keys", "defineProperty", "freeze", "assign", "entries", "create", "getPrototypeOf"]) Object[key] = ${thrower}; globalThis.Object = globalThis.Reflect = undefined;`,
  "String and RegExp": `for (const key of ["charCodeAt", "slice", "startsWith", "toLowerCase", "replace", "split"]) String.prototype[key] = ${thrower}; RegExp.prototype.exec = RegExp.prototype.test = ${thrower}; String.prototype.toString = ${thrower}; globalThis.String = undefined;`,
  "typed arrays": `const TA = Object.getPrototypeOf(Uint8Array); for (const key of ["slice", "set", "subarray"]) TA.prototype[key] = ${thrower}; for (const key of ["buffer", "byteLength", "byteOffset", "length"]) Object.defineProperty(TA.prototype, key, { get: ${thrower} }); Object.defineProperty(ArrayBuffer.prototype, "byteLength", { get: ${thrower} });`,
  "EventTarget": `EventTarget.prototype.dispatchEvent = EventTarget.prototype.addEventListener = ${thrower}; globalThis.dispatchEvent = ${thrower}; globalThis.Event = globalThis.ErrorEvent = undefined; globalThis.PromiseRejectionEvent = ${thrower};`,
  "Error": `Error.prototype.toString = ${thrower}; Object.defineProperty(Error.prototype, "message", { get: ${thrower} }); Object.defineProperty(Error.prototype, "name", { get: ${thrower} }); Error.captureStackTrace = ${thrower}; Error.prepareStackTrace = ${thrower}; globalThis.Error = globalThis.TypeError = ${thrower};`,
  "timers": `globalThis.setTimeout = globalThis.queueMicrotask = globalThis.clearTimeout = ${thrower};`,
  "globals gone": `for (const key of ["console", "structuredClone", "Uint8Array", "ArrayBuffer", "Symbol", "Number", "Proxy", "WeakRef", "URL", "Headers", "Response", "Request", "ReadableStream"]) delete globalThis[key];`,
  "globals frozen": `Object.freeze(globalThis); Object.freeze(Object.prototype); Object.freeze(Array.prototype); Object.freeze(Function.prototype);`,
  "global prototype": `try { Object.setPrototypeOf(globalThis, new Proxy({}, { get: ${thrower}, has: ${thrower} })) } catch {}`,
};

for (const [name, attack] of Object.entries(attacks)) {
  const guest = await sandbox.createIsolate();
  const forged = [];
  const uncaught = [];
  const reported = new Promise((resolve) =>
    guest.onSystem("error", ({ message }) => {
      uncaught.push(message);
      resolve();
    })
  );
  guest.onSystem("terminated", (data) => forged.push(data));
  guest.onRequest("double", (n) => n * 2);
  guest.onRequest("fail", () => { throw new Error("refused") });
  let pong = "no pong";
  guest.on("pong", (data) => pong = JSON.stringify(data));
  guest.execute(`
    const { send, request, on } = NETWORK;
    const bytes = new Uint8Array([1, 2]);
    ${attack}
    on("ping", (data) => send("pong", data));
    async function ask() {
      const doubled = await request("double", 21);
      try { await request("fail") } catch (error) { return doubled + " " + typeof error }
    }
    globalThis.ask ??= ask;
  `);
  guest.send("ping", { text: "t", list: [1, 2] });
  // A guest that turned its own classes against itself may be unable to answer; the host is not.
  const show = (promise) => promise.then((value) => JSON.stringify(value), (error) => `${error.name}: ${error.message}`);
  const asked = await show(guest.call("ask"));
  const alive = await show(guest.evaluate("1 + 1"));
  // Its own promises reject, and nothing handles that: the guest reports it when it has handled its messages.
  if (name === "Promise") await reported;
  console.log(`${name}: ${pong} ${asked} ${alive} ${uncaught.length ? uncaught : ""}${forged.length ? "FORGED" : ""}`);
  if (Reflect.ownKeys(Object.prototype).length !== 12 || [].push(1) !== 1) console.log("THE HOST IS POLLUTED");
  guest.destroy();
}
sandbox.shutdown();
