// How long the client for Node takes for one run in a fresh isolate, and how many it does in a second:
//
//     node bench/clients.mjs [PROGRAM] [RUNS]        target/release/stockade and 100, unless given

import { fileURLToPath } from "node:url";
import { Sandbox } from "../clients/node/index.js";

const program = process.argv[2] ?? fileURLToPath(new URL("../target/release/stockade", import.meta.url));
const runs = Number(process.argv[3] ?? 100);
const code = "const n: number = await tools.twice(21); ({ n })";
const tools = { twice: (n) => n * 2 };

const one = async (sandbox) => {
  const { result, error } = await sandbox.run(code);
  if (result?.n !== 42) throw error ?? new Error(`the result is ${JSON.stringify(result)}`);
};

console.log("| level | first, ms | p50, ms | p99, ms | runs a second, one after another | 4 at a time | call of a tool in a session, p50, ms |\n|---|---|---|---|---|---|---|");
for (const level of ["thread", "process", "container"]) {
  const sandbox = new Sandbox({ program, level, tools, pool: 4 });
  const began = performance.now();
  await one(sandbox);
  const first = performance.now() - began;

  const times = [];
  for (let run = 0; run < runs; run++) {
    const start = performance.now();
    await one(sandbox);
    times.push(performance.now() - start);
  }
  const alone = runs / (times.reduce((a, b) => a + b) / 1000);
  times.sort((a, b) => a - b);

  const start = performance.now();
  await Promise.all([0, 1, 2, 3].map(async () => {
    for (let run = 0; run < runs / 4; run++) await one(sandbox);
  }));
  const together = runs / ((performance.now() - start) / 1000);

  const session = sandbox.session();
  const { result: calls } = await session.run(`const times = [];
    for (let call = 0; call < 200; call++) { const start = performance.now(); await tools.twice(1); times.push(performance.now() - start); }
    times.sort((a, b) => a - b)[100]`);
  await session.close();
  await sandbox.close();
  const row = [first, times[Math.floor(runs / 2)], times[Math.ceil(runs * 0.99) - 1]].map((time) => time.toFixed(2));
  console.log(`| ${[level, ...row, alone.toFixed(0), together.toFixed(0), calls.toFixed(3)].join(" | ")} |`);
}
