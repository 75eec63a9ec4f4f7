// `./x bench`: the groups of measurements, each as a table, a record and a drawing. Timing is reported
// and never asserted: the exit code says only whether Stockade ran.

import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { draw } from "./chart.js";
import { grants } from "./grants/measures.js";
import { levels } from "./levels/measures.js";
import { measure } from "./measure.js";
import { operate } from "./operate/measures.js";
import { peers } from "./peers/measures.js";
import { figuresTable, targetsTable } from "./report.js";
import { serve } from "./serve/measures.js";

const bench = fileURLToPath(new URL(".", import.meta.url));
const groups = [peers, levels, serve, operate, grants];

const HELP = `usage: ./x bench [group ...] [options]

groups, all when none is named:
${groups.map(({ name, about }) => `  ${name.padEnd(18)}${about}`).join("\n")}

options:
  --quick           one round of less work: about two minutes, less precise figures
  --rounds <n>      rounds; in each, every column does every task (3; quick: 1)
  --only <names>    columns, with commas:
${groups.map(({ columnNames }) => `${" ".repeat(20)}${columnNames.join(",")}`).join("\n")}
  --tasks <names>   tasks, with commas:
${groups.map((group) => `${" ".repeat(20)}${taskNames(group).join(",")}`).join("\n")}
  --patience <s>    wait for a quiet machine before each task, so long in all (0)
  --record          also write ${groups.map(({ file }) => `docs/${file}.json`).join(", ")} and the .svg of each
`;

function taskNames(group) {
  return [...new Set(group.tasks(true).map((task) => task.work))];
}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
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
    for (const name of positionals) {
      if (!groups.some((group) => group.name === name)) throw new Error(`there is no group ${name}`);
    }
    const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds} is not a whole number from 1`);
    const patience = Number(values.patience);
    if (!(patience >= 0)) throw new Error(`--patience ${values.patience} is not a number of seconds`);
    return { ...values, rounds, patience, named: positionals };
  } catch (error) {
    console.error(`bench: ${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

const { help, record: keep, named, ...how } = options();
if (help) {
  console.log(HELP);
  process.exit(0);
}

function write(group, record, folder, name) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record, null, 2)}\n`);
  writeFileSync(join(folder, `${name}.svg`), draw(record, group));
  console.error(`bench: written: ${relative(process.env.PWD ?? bench, join(folder, name))}.json and .svg`);
}

let ran = true;
for (const group of groups.filter(({ name }) => named.length === 0 || named.includes(name))) {
  const record = await measure(group, how);
  const { machine, rounds } = record;
  console.log(`\n${group.title}: ${machine.cpu}, ${machine.cores} cores, ${rounds} round${rounds === 1 ? "" : "s"}: medians\n`);
  console.log(figuresTable(record, group.figures));
  if (record.targets.length > 0) console.log(`\n${targetsTable(record.targets)}`);
  write(group, record, join(bench, "results"), group.name);
  if (keep) write(group, record, join(bench, "..", "docs"), group.file);
  const ours = record.columns.filter((column) => column.ours);
  ran &&= ours.length === 0 || ours.some(({ figures }) => figures && Object.keys(figures).length > 0);
}
process.exit(ran ? 0 : 1);
