// A pool of isolates divides tasks: which numbers below 100,000 are prime?
//
//   stockade run examples/many-workers.js 4        four may compute at the same time

const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const workers = await Promise.all(Array.from({ length: 8 }, () => sandbox.createIsolate()));

const code = `
  function primes({ from, to }) {
    let count = 0;
    next: for (let n = Math.max(from, 2); n < to; n++) {
      for (let d = 2; d * d <= n; d++) if (n % d === 0) continue next;
      count++;
    }
    return count;
  }
`;
for (const worker of workers) worker.execute(code);

const tasks = [];
for (let from = 0; from < 100_000; from += 5000) tasks.push({ from, to: from + 5000 });

// Each worker takes the next task when it has finished one.
let total = 0;
let done = 0;
await Promise.all(workers.map(async (worker) => {
  for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
    const count = await worker.call('primes', task);
    total += count;
    done++;
  }
}));

console.log(`${workers.length} workers, ${done} tasks: ${total} primes below 100,000`);
sandbox.shutdown();
