// The timeout of Atomics.waitAsync ends a wait in an isolate that has nothing else to do.
const sandbox = new V8Sandbox();
const isolate = await sandbox.createIsolate({ sharedArrayBuffer: true });
console.log(await isolate.evaluate(`(async () => {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const timedOut = await Atomics.waitAsync(cell, 0, 0, 50).value;
  const woken = Atomics.waitAsync(cell, 0, 0).value;
  Atomics.notify(cell, 0);
  return [timedOut, await woken].join(", ");
})()`));
sandbox.shutdown();
