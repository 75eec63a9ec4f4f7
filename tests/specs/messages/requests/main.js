// Requests: an answer, an error, none at all, and a limit to the wait.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
guest
  .onRequest("add", ({ a, b }) => a + b)
  .onRequest("later", async (n) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return n;
  })
  .onRequest("throws", () => {
    throw new RangeError("no such thing");
  })
  .onRequest("rejects", () => Promise.reject("a string"))
  .onRequest("nothing", () => {})
  .onRequest("cycle", () => {
    const cycle = {};
    return cycle.self = cycle;
  });
const ask = (code) => guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
console.log(await ask(`NETWORK.request("add", { a: 1, b: 2 })`));
console.log(await ask(`Promise.all([3, 1, 2].map((n) => NETWORK.request("later", n)))`));
console.log(await ask(`NETWORK.request("throws")`));
console.log(await ask(`NETWORK.request("rejects")`));
console.log(await ask(`NETWORK.request("nothing")`));
console.log((await ask(`NETWORK.request("cycle")`)).split("\n")[0]);
console.log(await ask(`NETWORK.request("missing")`));
console.log(await ask(`NETWORK.request(5)`));
console.log(await ask(`(async () => { try { await NETWORK.request("throws") } catch (error) { return [error instanceof Error, error.stack] } })()`));

// Each side's wait has a limit.
const hasty = await sandbox.createIsolate({ requestTimeoutMs: 50 });
const gaveUp = new Promise((resolve) =>
  hasty.onRequest("never", (_, { signal }) => {
    signal.onabort = () => resolve(signal.reason.message);
    return new Promise(() => {});
  })
);
// By a message: the wait for a reply to `evaluate` has the same limit.
const guestGaveUp = new Promise((resolve) => hasty.on("gave up", resolve));
hasty.execute(`NETWORK.request("never").catch((error) => NETWORK.send("gave up", error.message))`);
console.log(await guestGaveUp);
console.log(await gaveUp);
const patient = await hasty.evaluate("new Promise(() => {})").catch((error) => error.message);
console.log(patient);
// By a message again: a machine may take longer than that limit.
const alive = new Promise((resolve) => hasty.on("alive", resolve));
hasty.execute(`NETWORK.send("alive", "still here")`);
console.log(await alive);
sandbox.shutdown();
