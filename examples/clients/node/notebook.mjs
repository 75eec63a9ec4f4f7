// A notebook: cells that share an isolate, with their output as it comes, and a cell that is interrupted.

import { Sandbox } from "stockade";

const cells = [
  "const numbers = [3, 1, 2]; numbers.sort()",
  "const mean = numbers.reduce((a, b) => a + b) / numbers.length; mean",
  "for (const n of numbers) { console.log('number', n); }",
  "mean.toFixed(n)",
  "await new Promise(() => setInterval(() => console.log('still here'), 10))",
  "typeof numbers",
];

const sandbox = new Sandbox();
const session = sandbox.session();
for (const [at, code] of cells.entries()) {
  const run = session.run(code);
  for await (const { text } of run.console) {
    console.log(`   ${text}`);
    if (text === "still here") {
      run.cancel();
      break;
    }
  }
  const { result, error, stateLost } = await run;
  console.log(`[${at + 1}]`, error ? (error.kind === "thrown" ? error.message : error.kind) : result, stateLost ? "(the notebook begins again)" : "");
}
await session.close();
await sandbox.close();
