// A destroyed isolate reports it, and everything that waits for it rejects.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({ name: "plugin" });
console.log(String(guest), guest, guest.id, guest.destroyed, sandbox.isolateCount());
const requested = Promise.withResolvers();
const aborted = Promise.withResolvers();
guest.onRequest("hang", (_, { signal }) => {
  signal.onabort = () => aborted.resolve(signal.reason.message);
  requested.resolve();
  return new Promise(() => {});
});
const events = [];
const gone = new Promise((resolve) => guest.onSystem("destroyed", (data) => resolve(events.push("destroyed", data))));
guest.onSystem("terminated", (data) => events.push("terminated", data));
const waiting = [
  guest.evaluate(`NETWORK.request("hang")`),
  guest.evaluate("new Promise(() => {})"),
].map((promise) => promise.catch((error) => error.message));
await requested.promise;
guest.destroy();
guest.destroy();
console.log(guest.destroyed);
console.log(await Promise.all(waiting));
console.log(await aborted.promise);
await gone;
console.log(events, sandbox.isolateCount());
for (const use of [() => guest.send("x"), () => guest.execute("1"), () => guest.stats(), () => guest.evaluate("1"), () => guest.call("x"), () => guest.drain()]) {
  try {
    await use();
  } catch (error) {
    console.log(error.message);
  }
}
// Handlers may still be set and taken away: nothing comes.
console.log(guest.on("x", () => {}).off("x") === guest);
try {
  guest.onSystem("nonsense", () => {});
} catch (error) {
  console.log(error.message);
}
try {
  guest.on("x", 5);
} catch (error) {
  console.log(error.message);
}
const other = await sandbox.createIsolate();
console.log(String(other), await other.evaluate("1"));
sandbox.shutdown();
await sandbox.createIsolate().catch((error) => console.log(error.message));
