// Stockade's default isolates compared with those of other runtimes: the tasks for the adapters, the
// figures that they return, and the targets.

import { residentBytes } from "../processes.js";
import { runTask } from "../task.js";
import { findRuntimes, runtimeNames } from "./runtimes.js";

/** Tasks in the order they run. `only` and `not` name the runtimes of a task that is not for all. */
function tasks(quick) {
  const n = (full, short) => (quick ? short : full);
  const settleMs = n(1500, 500);
  return [
    { name: "create", work: "create", count: n(60, 25) },
    { name: "create from a warm pool", work: "create", count: n(60, 25), warm: 1, suffix: "warm", only: ["stockade"] },
    { name: "round trip", work: "roundTrip", count: n(20_000, 5_000) },
    { name: "one way", work: "oneWay", count: n(400_000, 100_000) },
    { name: "payload", work: "payload", count: n(100, 30) },
    { name: "memory", work: "memory", count: n(200, 100), settleMs, only: ["stockade"] },
    { name: "memory", work: "memory", count: n(50, 20), settleMs, not: ["stockade"] },
    { name: "many isolates", work: "many", count: n(1_000, 300), only: ["stockade"] },
    { name: "neighbour", work: "neighbour", rounds: n(5, 2), ms: n(800, 400) },
  ];
}

/** A row of the table: figure, text, unit, digits, and whether less or more is better. */
const figures = [
  { key: "create_ms", text: "create to first message, cold", unit: "ms", digits: 2, target: 2.0 },
  { key: "create_p95_ms", text: "  p95", unit: "ms", digits: 2 },
  { key: "create_ms_warm", text: "create to first message, warm pool", unit: "ms", digits: 2, target: 0.5 },
  { key: "create_p95_ms_warm", text: "  p95", unit: "ms", digits: 2 },
  { key: "round_trip_us", text: "round trip, small message", unit: "µs", digits: 1, target: 25 },
  { key: "round_trip_p95_us", text: "  p95", unit: "µs", digits: 1 },
  { key: "round_trip_p99_us", text: "  p99", unit: "µs", digits: 1 },
  { key: "one_way_per_s", text: "one-way small messages", unit: "/s", digits: 0, target: 400_000, more: true },
  { key: "memory_mb", text: "memory per idle isolate (RSS)", unit: "MB", digits: 2, target: 1.8 },
  { key: "payload_bytes_ms", text: "round trip, 1 MB of bytes", unit: "ms", digits: 2 },
  { key: "payload_text_ms", text: "round trip, 1 MB of text", unit: "ms", digits: 2 },
  { key: "two_copies_ms", text: "  two plain copies of 1 MB", unit: "ms", digits: 2 },
  { key: "two_clones_ms", text: "  two structured clones of 1 MB", unit: "ms", digits: 2 },
  { key: "payload_to_copies", text: "1 MB of bytes, to two copies", unit: "x", digits: 2, target: 2 },
  { key: "payload_to_clones", text: "1 MB of bytes, to two clones", unit: "x", digits: 2 },
  { key: "many_isolates", text: "live isolates at once", unit: "", digits: 0, target: 1_000, more: true, fullOnly: true },
  { key: "many_create_s", text: "  created one by one in", unit: "s", digits: 2 },
  { key: "many_ping_ms", text: "  all answer a message in", unit: "ms", digits: 1 },
  { key: "many_mb", text: "  memory of all (RSS)", unit: "MB", digits: 0 },
  { key: "alone_p99_us", text: "round trip p99, alone", unit: "µs", digits: 1 },
  { key: "beside_p99_us", text: "round trip p99, busy neighbour", unit: "µs", digits: 1 },
  { key: "neighbour_ratio", text: "round trip p99, busy to alone", unit: "x", digits: 2, target: 3 },
];

/** The figures of one run of a task, from its result and the memory read at its marks. */
function figuresOf(task, result, marks) {
  const grown = (marks.after - marks.before) / 1e6;
  const { isolates, alive, ...found } = result;
  if (task.work === "memory") return { memory_mb: grown / isolates };
  if (task.work === "many") return { ...found, many_isolates: isolates, many_mb: grown };
  if (!task.suffix) return found;
  return Object.fromEntries(Object.entries(found).map(([key, value]) => [`${key}_${task.suffix}`, value]));
}

function columns() {
  return findRuntimes().map((runtime) => ({
    ...runtime,
    ours: runtime.id === "stockade",
    run: async (task) => {
      const { result, marks } = await runTask(runtime.command(JSON.stringify(task)), residentBytes);
      return figuresOf(task, result, marks);
    },
  }));
}

export const peers = {
  name: "peers",
  about: "isolates compared with Deno Worker, Node worker_threads, Bun Worker and isolated-vm",
  title: "Compared with other runtimes",
  file: "bench",
  columnNames: runtimeNames,
  columns,
  tasks,
  figures,
  judged: "stockade",
  shown: ["create_ms", "round_trip_us", "one_way_per_s", "memory_mb", "payload_bytes_ms", "beside_p99_us"],
  dashed: "Stockade's target",
};
