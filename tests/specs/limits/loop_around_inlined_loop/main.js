// The optimising compiler must keep the interrupt check of a loop whose body holds an inlined loop of
// known length: without it nothing ends the guest.
const sandbox = new V8Sandbox({ memoryLimitMb: 64, cpuLimitMs: 5000 });

async function run(code) {
  const worker = await sandbox.createIsolate();
  return await new Promise((resolve) => {
    worker.on("done", (data) => {
      worker.destroy();
      resolve(`done ${data}`);
    });
    worker.onSystem("terminated", ({ reason }) => resolve(reason));
    worker.execute(code);
  });
}

console.log(await run(`
  const all = [];
  for (let i = 0; i < 100; i++) all.push(new Array(1000).fill(1.5));
  NETWORK.send("done", all.length);
`));
for (let i = 0; i < 3; i++) {
  console.log(await run("const all = []; for (;;) all.push(new Array(1000).fill(1.5));"));
}
while (sandbox.abandonedCount() > 0) await new Promise((resolve) => setTimeout(resolve, 10));
console.log("no thread is left");
sandbox.shutdown();
