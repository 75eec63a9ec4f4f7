// The time an isolate had nothing to do is not held against what comes next. It is idle for more than three times its
// limit, after which a worker would be ended from outside. A message takes far less than the limit on a busy machine too.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate({ wallLimitMs: 600, cpuLimitMs: 1000, killGraceMs: 1 });
worker.onSystem("terminated", ({ reason, detail }) => console.log("TERMINATED", reason, detail));
worker.execute(`
  let seen = 0;
  NETWORK.on("more", () => seen++);
  globalThis.count = () => seen;
`);
for (let round = 0; round < 3; round++) {
  await new Promise((resolve) => setTimeout(resolve, 2000));
  // Many, so that the limit watchdog checks while some of them wait.
  for (let i = 0; i < 500; i++) worker.send("more", i);
  console.log(await worker.call("count"));
}
sandbox.shutdown();
