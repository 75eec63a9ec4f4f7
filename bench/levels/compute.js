// Run by `stockade run`: the kernels at all given levels in one process, level after level within each
// round, and in each generation in fresh isolates, because the compiler's choices differ from one to the next.
//
// Prints `result <json>`: kernel -> level -> milliseconds, one entry a round.

import { kernels, kernelSource } from "./kernels.js";

/** Runs before the first that counts: enough for the optimizing compiler. */
const WARM_UP = 6;

const { levels, generations, rounds } = JSON.parse(Deno.args[0]);
const sandbox = new V8Sandbox({ warm: 0, cpuLimitMs: 0, wallLimitMs: 0, timerPrecisionUs: 1 });

async function guestAt(options) {
  const isolate = await sandbox.createIsolate(options);
  let ran;
  isolate.on("ran", (result) => ran(result));
  isolate.execute(kernelSource);
  return {
    isolate,
    run: (kernel, n) =>
      new Promise((resolve) => {
        ran = resolve;
        isolate.send("run", { kernel, n });
      }),
  };
}

const times = Object.fromEntries(Object.keys(kernels).map((kernel) => [kernel, Object.fromEntries(levels.map(({ id }) => [id, []]))]));

for (let generation = 0; generation < generations; generation++) {
  const guests = [];
  for (const { id, options, slow } of levels) guests.push({ id, slow, ...(await guestAt(options)) });
  for (const [kernel, n] of Object.entries(kernels)) {
    for (let round = -WARM_UP; round < rounds; round++) {
      // Who goes first changes.
      const first = (round + WARM_UP + generation) % guests.length;
      const values = [];
      for (const { id, slow, run } of [...guests.slice(first), ...guests.slice(0, first)]) {
        // Without a compiler it takes many times as long and needs no warming up.
        if (slow && round !== 0) continue;
        const { ms, value } = await run(kernel, n);
        values.push(value);
        if (round >= 0) times[kernel][id].push(ms);
      }
      if (values.some((value) => value !== values[0])) throw new Error(`${kernel}: ${values}`);
    }
  }
  for (const { isolate } of guests) isolate.destroy();
}

console.log(`result ${JSON.stringify(times)}`);
sandbox.shutdown();
Deno.exit(0);
