// Options are checked, all of them at once; isolates cannot be made by hand.
for (const make of [
  () => new V8Sandbox({ threds: 4, cpuLimitMs: "fast" }),
  () => new V8Sandbox(null),
  () => new V8Sandbox({ isolation: "moon" }),
  () => new Isolate(),
]) {
  try {
    make();
  } catch (error) {
    console.log(`${error.name}: ${error.message}`);
  }
}
const sandbox = new V8Sandbox({ threads: 3 });
console.log(sandbox.threadCount(), sandbox.isolateCount());
await sandbox.createIsolate({ isolation: "vm" }).catch((error) => console.log(error.message.split("\n")[0]));
{
  using worker = await sandbox.createIsolate({ name: "short" });
  console.log(worker, worker.id, worker.name, worker.destroyed, sandbox.isolateCount());
}
const worker = await sandbox.createIsolate({ env: { key: "value" }, modules: { lib: "export const x = 6 * 7" } });
console.log(worker.id > 0, await worker.evaluate("NETWORK.env.key"), await worker.evaluate("import('lib').then((m) => m.x)"));
sandbox.shutdown();
sandbox.shutdown();
await sandbox.createIsolate().catch((error) => console.log(error.message));
