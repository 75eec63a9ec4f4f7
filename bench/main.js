// `./x bench`: the same work in Stockade and its peers, taking turns. Timing is reported and never
// asserted: the exit code says only whether Stockade ran.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { draw } from "./chart.js";
import { figuresOf, judge, tasks } from "./measures.js";
import { waitForQuiet } from "./quiet.js";
import { figuresTable, targetsTable } from "./report.js";
import { findRuntimes } from "./runtimes.js";
import { runTask } from "./task.js";

const bench = fileURLToPath(new URL(".", import.meta.url));

const HELP = `usage: ./x bench [options]

  --quick           one round of less work: under a minute, rougher figures
  --rounds <n>      rounds; in each, every runtime does every task (3; quick: 1)
  --only <names>    runtimes, with commas: stockade,deno,node,bun,isolated-vm
  --tasks <names>   tasks, with commas: create,roundTrip,oneWay,payload,memory,many,neighbour
  --patience <s>    wait for a quiet machine before each task, so long in all (0)
  --record          also write docs/bench.json and docs/bench.svg
`;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        record: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
        rounds: { type: "string" },
        patience: { type: "string", default: "0" },
        only: { type: "string" },
        tasks: { type: "string" },
      },
    });
    const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds} is not a whole number from 1`);
    const patience = Number(values.patience);
    if (!(patience >= 0)) throw new Error(`--patience ${values.patience} is not a number of seconds`);
    return { ...values, rounds, patience };
  } catch (error) {
    console.error(`bench: ${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

const { quick, record: keep, help, rounds, patience, only, tasks: chosen } = options();
if (help) {
  console.log(HELP);
  process.exit(0);
}
const named = (list, name) => list === undefined || list.split(",").includes(name);
const say = (line) => console.error(`bench: ${line}`);
/** One line that is written over, on a terminal only. */
const progress = (line) => { if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`); };

const runtimes = findRuntimes().filter((runtime) => named(only, runtime.id));
for (const { id, missing } of runtimes) if (missing) say(`without ${id}: ${missing}`);
const load = loadavg()[0];
if (load > 0.5) say(`the machine is busy (load ${load.toFixed(1)}): the figures will look worse than they are`);

/** runtime id -> figure -> its value in each round */
const collected = Object.fromEntries(runtimes.map((runtime) => [runtime.id, {}]));
const failures = {};
const deadline = Date.now() + patience * 1000;
/** Tasks begun on a busy machine, of those that waited. */
let unquiet = 0;

for (let round = 1; round <= rounds; round++) {
  for (const task of tasks(quick).filter((task) => named(chosen, task.work))) {
    for (const runtime of runtimes.filter((runtime) => runtime.command)) {
      if (task.only && !task.only.includes(runtime.id)) continue;
      if (task.not?.includes(runtime.id)) continue;
      if (patience > 0 && !(await waitForQuiet(deadline))) unquiet++;
      progress(`bench: round ${round} of ${rounds}: ${task.name}, ${runtime.label}`);
      try {
        const { result, marks } = await runTask(runtime, task);
        for (const [key, value] of Object.entries(figuresOf(task, result, marks))) {
          (collected[runtime.id][key] ??= []).push(value);
        }
      } catch (error) {
        progress("");
        say(`${runtime.label}, ${task.name}: ${error.message}`);
        (failures[runtime.id] ??= []).push(`${task.name}: ${error.message}`);
      }
    }
  }
}
progress("");

function overRounds(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)], least: sorted[0], most: sorted.at(-1) };
}

const ours = Object.entries(collected.stockade ?? {}).map(([key, values]) => [key, overRounds(values).median]);
const record = {
  date: new Date().toISOString(),
  quick,
  rounds,
  machine: {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryMb: Math.round(totalmem() / 1e6),
    kernel: release(),
    loadBefore: Number(load.toFixed(2)),
    tasksBegunBusy: patience > 0 ? unquiet : undefined,
  },
  targets: judge(Object.fromEntries(ours), quick),
  runtimes: runtimes.map(({ id, label, version, missing }) => ({
    id,
    label,
    version,
    missing,
    failures: failures[id],
    figures: missing
      ? undefined
      : Object.fromEntries(Object.entries(collected[id]).map(([key, values]) => [key, overRounds(values)])),
  })),
};

console.log(`${record.machine.cpu}, ${record.machine.cores} cores, ${rounds} round${rounds === 1 ? "" : "s"}: medians\n`);
console.log(figuresTable(record));
if (record.targets.length > 0) console.log(`\n${targetsTable(record.targets)}`);

function write(folder, name) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record, null, 2)}\n`);
  writeFileSync(join(folder, `${name}.svg`), draw(record));
  say(`written: ${relative(process.env.PWD ?? bench, join(folder, name))}.json and .svg`);
}
write(join(bench, "results"), "latest");
if (keep) write(join(bench, "..", "docs"), "bench");

process.exit(ours.length > 0 || !named(only, "stockade") ? 0 : 1);
