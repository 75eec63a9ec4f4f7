// Stockade's levels of isolation compared with each other, with bwrap and with Bun's Worker: the tasks, their figures, and
// the targets, which are those of level container.

import { fileURLToPath } from "node:url";

import { findRuntimes } from "../peers/runtimes.js";
import { memoryOf } from "../processes.js";
import { stockade } from "../programs.js";
import { runTask } from "../task.js";
import { bubblewrapColumns } from "./bubblewrap.js";
import { levelColumns, levels as stockadeLevels } from "./levels.js";

const COMPUTE = fileURLToPath(new URL("compute.js", import.meta.url));
const CONFINED = ["process", "container", "strict"];
const BWRAP = ["bwrap-node", "bwrap-deno"];
/** Columns that are here to be compared with, in what they have a figure for. */
const OTHERS = [...BWRAP, "bun"];

/** Tasks in the order they run. `only` and `not` name the columns of a task that is not for all. */
function tasks(quick) {
  const n = (full, short) => (quick ? short : full);
  // Longer than an isolate waits before it gives memory back.
  const settleMs = n(4000, 2500);
  const markMs = n(3000, 1500);
  return [
    { name: "create", work: "create", count: n(200, 40), pauseMs: 25 },
    { name: "create from a warm pool", work: "create", count: n(200, 40), warm: 4, suffix: "warm", firstMs: 1500, pauseMs: 50, not: OTHERS },
    { name: "round trip", work: "roundTrip", count: n(20_000, 5_000), not: ["bun"] },
    { name: "fresh ones", work: "fresh", count: n(1000, 200), atOnce: 4, not: OTHERS },
    { name: "one way", work: "oneWay", count: n(400_000, 100_000), not: OTHERS },
    { name: "payload", work: "payload", count: n(100, 30), not: OTHERS },
    { name: "memory", work: "memory", count: 50, settleMs, markMs },
    { name: "computing", work: "compute", generations: n(4, 2), rounds: n(15, 6), together: compute, not: OTHERS },
    { name: "1,000 at once", work: "many", count: n(1000, 200), settleMs, markMs, idleMs: n(5000, 2000), only: ["process", "container"] },
    { name: "starts and kills", work: "churn", count: n(1000, 100), settleMs, markMs, only: CONFINED.slice(0, 2), once: true },
  ];
}

const KERNEL_NAMES = {
  nbody: "n-body",
  json: "JSON",
  regexp: "regular expressions",
  strings: "building strings",
  sort: "sorting",
  arrays: "typed arrays",
  recursion: "recursion",
};

const figures = [
  { key: "create_ms", text: "create to first message, cold", unit: "ms", digits: 2, target: 3 },
  { key: "create_p95_ms", text: "  p95", unit: "ms", digits: 2 },
  { key: "create_p99_ms", text: "  p99", unit: "ms", digits: 2, target: 6 },
  { key: "create_x", text: "  to a bare Bun Worker", unit: "x", digits: 2, target: 1 },
  { key: "thread_create_x", text: "  level thread to a bare Bun Worker", unit: "x", digits: 2, target: 1.5 },
  { key: "create_ms_warm", text: "create to first message, warm pool", unit: "ms", digits: 2, target: 0.5 },
  { key: "create_p95_ms_warm", text: "  p95", unit: "ms", digits: 2 },
  { key: "create_p99_ms_warm", text: "  p99", unit: "ms", digits: 2 },
  { key: "fresh_per_s", text: "new ones that answer a message and are gone", unit: "/s", digits: 0, more: true, target: 400 },
  { key: "round_trip_us", text: "round trip, small message", unit: "µs", digits: 1, target: 25 },
  { key: "round_trip_p95_us", text: "  p95", unit: "µs", digits: 1 },
  { key: "round_trip_p99_us", text: "  p99", unit: "µs", digits: 1 },
  { key: "one_way_per_s", text: "one-way small messages", unit: "/s", digits: 0, more: true },
  { key: "payload_bytes_ms", text: "round trip, 1 MB of bytes", unit: "ms", digits: 2 },
  { key: "payload_text_ms", text: "round trip, 1 MB of text", unit: "ms", digits: 2 },
  { key: "private_mb", text: "private memory, each of 50 idle", unit: "MB", digits: 2, target: 1.8 },
  { key: "pss_mb", text: "  with its share of what is shared (PSS)", unit: "MB", digits: 2 },
  { key: "resident_mb", text: "  resident", unit: "MB", digits: 2 },
  { key: "shared_percent", text: "  of that shared", unit: "%", digits: 0 },
  { key: "host_mb", text: "  the host's own growth for each", unit: "MB", digits: 2 },
  { key: "launcher_mb", text: "private memory of the launcher", unit: "MB", digits: 2 },
  { key: "compute_x", text: "time of computing, to thread", unit: "x", digits: 3, target: 1.05 },
  ...Object.entries(KERNEL_NAMES).map(([kernel, name]) => ({ key: `compute_${kernel}_x`, text: `  ${name}`, unit: "x", digits: 3 })),
  { key: "many_isolates", text: "live at once", unit: "", digits: 0, target: 1000, more: true, fullOnly: true },
  { key: "many_create_s", text: "  created one by one in", unit: "s", digits: 2 },
  { key: "many_ping_ms", text: "  all answer a message in", unit: "ms", digits: 1, target: 1000, fullOnly: true },
  { key: "many_pss_mb", text: "  memory of all (PSS, with the host's)", unit: "MB", digits: 0, target: 2500, fullOnly: true },
  { key: "many_idle_percent", text: "  processor time of all when idle", unit: "%", digits: 2 },
  { key: "churn_per_s", text: "starts and kills, one by one", unit: "/s", digits: 1, more: true },
  { key: "churn_descriptors", text: "  descriptors left", unit: "", digits: 0 },
  { key: "churn_processes", text: "  processes left", unit: "", digits: 0 },
  { key: "churn_cgroups", text: "  cgroups left", unit: "", digits: 0 },
  { key: "churn_kb", text: "  private memory left for each", unit: "kB", digits: 1 },
];

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}

/** Level -> its figures: each run of a kernel relative to level thread's run in the same round. */
function computeFigures(times, ids) {
  const found = Object.fromEntries(ids.map((id) => [id, {}]));
  for (const id of ids) {
    const medians = [];
    for (const [kernel, { thread, [id]: mine }] of Object.entries(times)) {
      // Where a level ran a round for many of thread's, all are relative to thread's median.
      const base = quantile(thread, 0.5);
      const ratios = mine.map((ms, i) => ms / (mine.length === thread.length ? thread[i] : base));
      medians.push(quantile(ratios, 0.5));
      found[id][`compute_${kernel}_ms`] = quantile(mine, 0.5);
      found[id][`compute_${kernel}_x`] = medians.at(-1);
      if (id === "thread") continue;
      found[id][`compute_${kernel}_x_q25`] = quantile(ratios, 0.25);
      found[id][`compute_${kernel}_x_q75`] = quantile(ratios, 0.75);
    }
    found[id].compute_x = Math.exp(medians.reduce((sum, x) => sum + Math.log(x), 0) / medians.length);
  }
  return found;
}

async function compute({ generations, rounds }, columns) {
  const ids = columns.map(({ id }) => id);
  if (!ids.includes("thread")) throw new Error("computing is measured relative to level thread, which is not among --only");
  const chosen = stockadeLevels.filter(({ id }) => ids.includes(id)).map(({ id, options }) => ({ id, options, slow: options.wx === "strict" }));
  const given = JSON.stringify({ levels: chosen, generations, rounds });
  const { result } = await runTask([stockade, "run", COMPUTE, "--", given], () => {});
  return computeFigures(result, ids);
}

/** Bun's Worker, which isolates nothing: what a start costs without isolation. */
function bunColumn() {
  const { id, label, version, missing, command } = findRuntimes().find(({ id }) => id === "bun");
  return {
    id,
    label,
    version,
    missing,
    run: async (task) => {
      const { result, marks } = await runTask(command(JSON.stringify(task)), (pid) => memoryOf(pid));
      if (task.work !== "memory") return result;
      const grown = (key) => (marks.after[key] - marks.before[key]) / result.isolates / 1e6;
      return { private_mb: grown("private"), pss_mb: grown("proportional"), resident_mb: grown("resident") };
    },
  };
}

/** Adds what is relative to Bun's Worker in the same round. */
function compare(collected) {
  const bun = collected.bun?.create_ms;
  if (bun === undefined) return;
  for (const { id } of stockadeLevels) {
    const mine = collected[id]?.create_ms;
    if (mine !== undefined) collected[id].create_x = mine.map((ms, round) => ms / bun[round]);
  }
  // The target of level thread stands with those of level container.
  if (collected.thread?.create_x && collected.container) collected.container.thread_create_x = collected.thread.create_x;
}

export const levels = {
  name: "levels",
  about: "the levels of isolation compared with each other, with bwrap around Node and Deno, and with Bun's Worker",
  title: "Levels of isolation",
  file: "bench-levels",
  columnNames: [...stockadeLevels.map(({ id }) => id), ...OTHERS],
  columns: () => [...levelColumns(), ...bubblewrapColumns(), bunColumn()],
  tasks,
  compare,
  figures,
  judged: "container",
  shown: ["create_ms", "create_ms_warm", "round_trip_us", "one_way_per_s", "private_mb", "compute_x"],
  dashed: "the target of level container",
};
