// Elapsed time of an activation: blocking counts though it takes no CPU; awaiting does not.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000, wallLimitMs: 1000 });
const ended = (guest) => new Promise((resolve) => guest.onSystem("terminated", resolve));
const blocker = await sandbox.createIsolate({ sharedArrayBuffer: true });
const end = ended(blocker);
const pending = blocker.evaluate(`Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`).catch((error) => error.message);
const { reason, cpuMs } = await end;
console.log(reason, cpuMs < 500, (await pending).split(":")[0]);

const waiter = await sandbox.createIsolate();
console.log(await waiter.evaluate(`new Promise((resolve) => setTimeout(() => resolve("awaited longer than the limit"), 1500))`));
console.log(waiter.destroyed);
const brief = await sandbox.createIsolate({ sharedArrayBuffer: true });
console.log(await brief.evaluate(`Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)`));
sandbox.shutdown();
