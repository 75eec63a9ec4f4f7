// Isolates that run out of memory while the engine compiles their loops end alone, one after the other.
const sandbox = new V8Sandbox({ warm: 0 });
const neighbour = await sandbox.createIsolate();
const reasons = new Map();
for (let round = 0; round < 80; round++) {
  const isolate = await sandbox.createIsolate({ memoryLimitMb: 16, cpuLimitMs: 5000 });
  const ended = new Promise((resolve) => isolate.onSystem("terminated", ({ reason }) => resolve(reason)));
  isolate.execute("const all = []; for (;;) all.push(new Array(1000).fill(1.5));");
  const reason = await ended;
  reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
}
console.log(JSON.stringify([...reasons]));
console.log(await neighbour.evaluate(`"alive"`));
sandbox.shutdown();
