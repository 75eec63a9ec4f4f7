// A group's tasks, its columns taking turns at each, and the record of it.

import { cpus, loadavg, release, totalmem } from "node:os";

import { waitForQuiet } from "./quiet.js";

const say = (line) => console.error(`bench: ${line}`);
/** One line that is written over, on a terminal only. */
const progress = (line) => { if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`); };

const isNamed = (list, name) => list === undefined || list.split(",").includes(name);

function overRounds(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median, least: sorted[0], most: sorted.at(-1) };
}

/** Each target with the result: met, or missed by how many percent. */
function judge(figures, reached, quick) {
  return figures
    .filter((figure) => figure.target !== undefined && reached[figure.key] !== undefined)
    .filter((figure) => !(quick && figure.fullOnly))
    .map(({ key, text, unit, digits, target, more = false }) => {
      const value = reached[key].median;
      const met = more ? value >= target : value <= target;
      const off = more ? 1 - value / target : value / target - 1;
      return { key, text: text.trim(), unit, digits, target, more, value, met, missedByPercent: met ? 0 : off * 100 };
    });
}

/** The columns that have something to do in a task. A task `together` is done by all in one run. */
function turns(task, columns) {
  const able = columns.filter(({ id }) => (task.only ? task.only.includes(id) : !task.not?.includes(id)));
  if (!task.together) return able.map((column) => ({ label: column.label, ids: [column.id], run: () => column.run(task) }));
  if (able.length === 0) return [];
  const run = () => task.together(task, able);
  return [{ label: able.map(({ label }) => label).join(" and "), ids: able.map(({ id }) => id), run }];
}

/** Runs the group; resolves with its record. */
export async function measure(group, { quick, rounds, patience, only, tasks: chosen }) {
  const columns = group.columns().filter((column) => isNamed(only, column.id));
  for (const { id, missing } of columns) if (missing) say(`without ${id}: ${missing}`);
  const load = loadavg()[0];
  if (load > 0.5) say(`the machine is busy (load ${load.toFixed(1)}): the figures will be worse than on an idle machine`);

  /** column id -> figure -> its value in each round */
  const collected = Object.fromEntries(columns.map((column) => [column.id, {}]));
  const failures = {};
  const deadline = Date.now() + patience * 1000;
  /** Tasks begun on a busy machine, of those that waited. */
  let unquiet = 0;

  for (let round = 1; round <= rounds; round++) {
    for (const task of group.tasks(quick).filter((task) => isNamed(chosen, task.work))) {
      if (task.once && round > 1) continue;
      for (const turn of turns(task, columns.filter((column) => !column.missing))) {
        if (patience > 0 && !(await waitForQuiet(deadline))) unquiet++;
        progress(`bench: round ${round} of ${rounds}: ${task.name}, ${turn.label}`);
        try {
          const found = await turn.run();
          for (const id of turn.ids) {
            for (const [key, value] of Object.entries(task.together ? (found[id] ?? {}) : found)) {
              (collected[id][key] ??= []).push(value);
            }
          }
        } catch (error) {
          progress("");
          say(`${turn.label}, ${task.name}: ${error.message}`);
          for (const id of turn.ids) (failures[id] ??= []).push(`${task.name}: ${error.message}`);
        }
      }
    }
  }
  progress("");
  group.compare?.(collected);

  const medians = (id) =>
    Object.fromEntries(Object.entries(collected[id] ?? {}).map(([key, values]) => [key, overRounds(values)]));
  const judged = medians(group.judged);
  return {
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
    judged: group.judged,
    targets: judge(group.figures, judged, quick),
    columns: columns.map(({ id, label, version, missing, ours }) => ({
      id,
      label,
      version,
      ours,
      missing,
      failures: failures[id],
      figures: missing ? undefined : medians(id),
    })),
  };
}
