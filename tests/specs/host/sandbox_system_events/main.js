// System events: what only the runtime can say.
const sandbox = new V8Sandbox({ cpuLimitMs: 100 });
const worker = await sandbox.createIsolate({ name: "greedy" });
worker.onSystem("error", ({ name, message, line, column }) => console.log("error", name, message, line, column));
worker.onSystem("terminated", (event) => {
  console.log("terminated", event.reason, event.cpuMs >= 100, event.memoryMb > 0, event.detail);
});
const destroyed = new Promise((resolve) =>
  worker.onSystem("destroyed", ({ reason }) => resolve(console.log("destroyed", reason)))
);
worker.on("terminated", () => console.log("forged, and only an event of the guest"));
worker.execute("NETWORK.send('terminated', {});\nthrow new TypeError('not caught')");
await worker.evaluate("1");
const pending = worker.evaluate("new Promise(() => {})").catch((error) => `rejected ${error.message}`);
worker.execute("for (;;);");
const rejected = await pending;
await destroyed;
console.log(rejected);
console.log(worker.destroyed, String(worker), sandbox.isolateCount());
for (const use of [() => worker.send("x"), () => worker.execute("1"), () => worker.stats()]) {
  try {
    use();
  } catch (error) {
    console.log(error.message);
  }
}
await worker.evaluate("1").catch((error) => console.log(error.message));
worker.destroy();
try {
  worker.onSystem("nonsense", () => {});
} catch (error) {
  console.log(error.message);
}
const late = await sandbox.createIsolate();
late.destroy();
late.destroy();
await new Promise((resolve) => late.onSystem("destroyed", ({ reason }) => resolve(console.log("late", reason))));
sandbox.shutdown();
