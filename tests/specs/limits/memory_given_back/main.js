// What an ended isolate held is given back: many that fill their limit, one after another.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000, memoryLimitMb: 64 });
const reasons = new Set();
let most = 0;
for (let i = 0; i < 24; i++) {
  const guest = await sandbox.createIsolate();
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.execute(`globalThis.all = []; for (;;) all.push(new Uint8Array(1e6).fill(1))`);
  reasons.add((await ended).reason);
  most = Math.max(most, Deno.memoryUsage().rss);
}
console.log([...reasons], "together below 1.2 GB:", most < 1.2e9, sandbox.isolateCount());
const control = await sandbox.createIsolate();
console.log(await control.evaluate(`let sum = 0; for (let i = 0; i < 200; i++) sum += new Uint8Array(1e6).fill(1)[5]; sum`));
sandbox.shutdown();
