// Requests of the guest: answers, errors, no handler, bytes, and giving one up.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
worker
  .onRequest("sum", ({ a, b }) => a + b)
  .onRequest("later", async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return { later: true };
  })
  .onRequest("throw", () => {
    throw new TypeError("the host's reason");
  })
  .onRequest("reverse", (bytes) => bytes.toReversed())
  .onRequest("cycle", () => {
    const cycle = {};
    return cycle.self = cycle;
  });
const hasty = await sandbox.createIsolate({ requestTimeoutMs: 50 });
hasty.onRequest("never", (_data, { signal }) =>
  new Promise(() => signal.addEventListener("abort", () => console.log("given up:", signal.reason.message))));
console.log(await worker.evaluate("NETWORK.request('sum', { a: 1, b: 2 })"));
console.log(await worker.evaluate("NETWORK.request('later')"));
console.log(await worker.evaluate("NETWORK.request('reverse', new Uint8Array([1, 2]))"));
for (const method of ["throw", "cycle", "missing"]) {
  console.log(await worker.evaluate(`NETWORK.request('${method}').catch((e) => e.message.split('\\n')[0])`));
}
const alive = setInterval(() => {}, 1000);
hasty.execute("NETWORK.request('never').catch((error) => NETWORK.send('gave up', error.message))");
console.log(await new Promise((resolve) => hasty.on("gave up", resolve)));
clearInterval(alive);
const many = await worker.evaluate(
  "Promise.all(Array.from({ length: 500 }, (_, i) => NETWORK.request('sum', { a: i, b: i })))",
);
console.log(many.length, many[499]);
const slow = await hasty.evaluate("new Promise(() => {})").catch((error) => error.message);
console.log(slow);
sandbox.shutdown();
