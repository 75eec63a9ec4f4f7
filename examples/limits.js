// Code that exceeds a limit: only its isolate is terminated, and the host receives the reason.
//
//   stockade run examples/limits.js

const sandbox = new V8Sandbox({ cpuLimitMs: 100, memoryLimitMb: 32 });

const programs = {
  'a loop without end': `for (;;);`,
  'a loop that catches everything': `for (;;) { try { for (;;); } catch {} }`,
  'promises without end': `(async () => { for (;;) await null; })()`,
  'memory without end': `const all = []; for (;;) all.push(new Array(1000).fill(1.5));`,
  'buffers without end': `const all = []; for (;;) all.push(new Uint8Array(1e6));`,
  'an uncaught error': `null.length`,
  'honest work': `NETWORK.send('done', [3, 1, 2].sort())`,
};

for (const [name, code] of Object.entries(programs)) {
  const worker = await sandbox.createIsolate();
  const outcome = new Promise((resolve) => {
    worker.onSystem('terminated', ({ reason }) => resolve(`ended: ${reason}`));
    worker.onSystem('error', ({ message }) => resolve(`error: ${message}`));
    worker.on('done', (data) => resolve(`done: ${data}`));
  });
  worker.execute(code);
  console.log(`${name}: ${await outcome}`);
  worker.destroy();
}

// Blocking without using the CPU, and work that is small but never stops.
const blocked = await sandbox.createIsolate({ sharedArrayBuffer: true, wallLimitMs: 200 });
blocked.onSystem('terminated', ({ reason }) => console.log(`blocking: ended: ${reason}`));
await blocked.evaluate(`Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`).catch(() => {});

const frequent = await sandbox.createIsolate({ cpuTotalMs: 200 });
const end = new Promise((resolve) => frequent.onSystem('terminated', resolve));
frequent.execute(`setInterval(() => { const until = Date.now() + 10; while (Date.now() < until); }, 1)`);
console.log(`a little, again and again: ended: ${(await end).reason}`);

sandbox.shutdown();
