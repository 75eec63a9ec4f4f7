// AsyncLocalStorage: what was set for a piece of work is found wherever that work goes, and nowhere else.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const guest = await sandbox.createIsolate({
  modules: {
    main: `import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
      import hooks from "node:async_hooks";
      Object.assign(globalThis, { AsyncResource, hooks, same: AsyncLocalStorage === globalThis.AsyncLocalStorage });`,
  },
});
guest.onRequest("later", (data) => data);
guest.execute(`
  globalThis.als = new AsyncLocalStorage();
  globalThis.pause = (ms) => new Promise((done) => setTimeout(done, ms));
`);
const cases = {
  module: `[same, hooks.AsyncLocalStorage === AsyncLocalStorage, typeof hooks.AsyncResource]`,
  outside: `[als.getStore() === undefined]`,
  run: `[als.run("a", (x, y) => [als.getStore(), x + y], 1, 2), als.getStore() === undefined]`,
  nested: `als.run("a", () => [als.run("b", () => als.getStore()), als.exit(() => als.getStore() === undefined), als.getStore()])`,
  throws: `(() => { try { als.run("a", () => { throw 1 }) } catch {} return als.getStore() === undefined })()`,
  await: `als.run("a", async () => { await null; const first = als.getStore(); await pause(1); await NETWORK.request("later"); return [first, als.getStore()] })`,
  then: `als.run("a", () => Promise.resolve().then(() => als.getStore()))`,
  thenable: `als.run("a", async () => await { then: (done) => done(als.getStore()) })`,
  timers: `als.run("a", () => new Promise((done) => { let n = 0; const id = setInterval(() => { if (++n === 2) { clearInterval(id); setTimeout(() => done([als.getStore(), n])) } }, 1) }))`,
  microtask: `als.run("a", () => new Promise((done) => queueMicrotask(() => done(als.getStore()))))`,
  abortTimeout: `als.run("a", () => new Promise((done) => { AbortSignal.timeout(1).onabort = () => done(als.getStore()) }))`,
  events: `(() => { const target = new EventTarget(); let seen; als.run("listener", () => target.addEventListener("x", () => seen = als.getStore())); als.run("dispatcher", () => target.dispatchEvent(new Event("x"))); return seen })()`,
  generators: `als.run("a", async () => { async function* g() { yield als.getStore(); await pause(1); yield als.getStore() } const all = []; for await (const one of g()) all.push(one); return all })`,
  streams: `als.run("a", async () => { const out = []; await ReadableStream.from([1]).pipeThrough(new TransformStream({ transform: (x, c) => c.enqueue([x, als.getStore()]) })).pipeTo(new WritableStream({ write: (x) => void out.push(x) })); return out })`,
  two: `(() => { const other = new AsyncLocalStorage(); return als.run("a", () => other.run("b", () => [als.getStore(), other.getStore()])) })()`,
  enterWith: `(async () => { als.enterWith("a"); await null; const inside = als.getStore(); als.disable(); return [inside, als.getStore() === undefined] })()`,
  bind: `(() => { const bound = als.run("a", () => AsyncLocalStorage.bind(function (x) { return [als.getStore(), x, this.y] })); return bound.call({ y: 2 }, 1) })()`,
  snapshot: `(() => { const within = als.run("a", () => AsyncLocalStorage.snapshot()); return als.run("b", () => [within((x) => als.getStore() + x, 1), als.getStore()]) })()`,
  resource: `(() => { const r = als.run("a", () => new AsyncResource("R")); return [r.runInAsyncScope(function (x) { return [als.getStore(), this.z, x] }, { z: 1 }, 2), r.bind(() => als.getStore())(), AsyncResource.bind(() => 1).length, r.emitDestroy() === r] })()`,
  defaultValue: `(() => { const own = new AsyncLocalStorage({ defaultValue: 7, name: "own" }); return [own.getStore(), own.run(8, () => own.getStore()), own.name] })()`,
  notAFunction: `als.run("a", 5)`,
  atOnce: `Promise.all([1, 2, 3, 4].map((id) => als.run(id, async () => { const seen = []; for (let i = 0; i < 3; i++) { await pause(id % 2); await NETWORK.request("later", id); seen.push(als.getStore()) } return seen })))`,
  rejection: `als.run("a", () => new Promise((done) => { addEventListener("unhandledrejection", (e) => { e.preventDefault(); done(als.getStore()) }, { once: true }); Promise.reject(1) }))`,
  replaced: `(() => { const { run } = als; AsyncLocalStorage.prototype.run = () => "mine"; const value = als.exit(() => als.getStore() === undefined); AsyncLocalStorage.prototype.run = run; return value })()`,
};
for (const [name, code] of Object.entries(cases)) {
  const value = await guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
  console.log(`${name}: ${JSON.stringify(value)}`);
}
// What a handler leaves behind is not there for the next message.
guest.execute(`NETWORK.on("message", (n) => { NETWORK.send("seen", [n, als.getStore() ?? null]); als.enterWith(n) })`);
const seen = [];
const all = new Promise((resolve) => guest.on("seen", (data) => seen.push(data) === 3 && resolve()));
for (const n of [1, 2, 3]) guest.send("message", n);
await all;
console.log(JSON.stringify(seen), await guest.evaluate(`als.getStore() === undefined`));
sandbox.shutdown();
