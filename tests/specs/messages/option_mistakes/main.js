// Every wrong option of a set is reported, all together.
const complain = async (make) => {
  try {
    await make();
    console.log("no complaint");
  } catch (error) {
    console.log(`${error.name}: ${error.message}`);
  }
};
await complain(() =>
  new V8Sandbox({
    threads: 0,
    cpuLimitMs: -1,
    memoryLimitMb: 1,
    cpuLimit: 5,
    isolation: "castle",
    console: true,
    name: "a\nb",
    env: [],
    modules: { a: 1 },
    timerPrecisionUs: 0.5,
    sharedArrayBuffer: "yes",
    cpuShare: 2,
  })
);
const sandbox = new V8Sandbox();
await complain(() => sandbox.createIsolate({ threads: 3, cpulimitms: 5 }));
await complain(() => sandbox.createIsolate(null));
await complain(() => sandbox.createIsolate("x"));
await complain(() => sandbox.createIsolate({ isolation: "vm" }));
await complain(() => sandbox.createIsolate({ env: { cycle: 1n } }));
await complain(() => new (sandbox.constructor)(5));
const guest = await sandbox.createIsolate({ cpuLimitMs: 0, memoryLimitMb: 64.5, wallLimitMs: 0, cpuShare: 0.5 });
console.log(await guest.evaluate(`"the control without an error"`));
await complain(() => new guest.constructor());
sandbox.shutdown();
