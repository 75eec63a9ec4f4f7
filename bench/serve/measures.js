// Stockade's gateway with each site isolated, compared with servers without isolation: tasks, figures, targets.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

import { memoryOfAll, treeOf } from "../processes.js";
import { stockade } from "../programs.js";
import { fixedRate, fullLoad, started } from "./load.js";
import { nginx, serveColumns, stockadeConfig } from "./servers.js";

const site = (name) => fileURLToPath(new URL(`sites/${name}.js`, import.meta.url));
const hello = site("hello");
const CONNECTIONS = 64;
/** Well below what the slowest server takes. */
const FIXED_RATE = 3000;

function tasks(quick) {
  const load = quick ? { seconds: 3, warmSeconds: 1 } : { seconds: 8, warmSeconds: 3 };
  const mine = ["container"];
  const notNginx = ["nginx"];
  return [
    { name: "hello", work: "hello", ...load, connections: CONNECTIONS },
    { name: "hello at a fixed rate", work: "fixed", ...load, connections: CONNECTIONS, rate: FIXED_RATE },
    { name: "JSON echo", work: "echo", ...load, connections: CONNECTIONS, post: true, not: notNginx },
    { name: "1 MB stream", work: "stream", ...load, connections: 16, not: notNginx },
    { name: "proxying", work: "proxy", ...load, connections: CONNECTIONS },
    { name: "quiet next to hostile", work: "hostile", ...load, pairs: quick ? 3 : 5, only: mine, once: true },
    { name: "idle sites", work: "sites", count: quick ? 10 : 40, only: mine, once: true },
    { name: "sleeping sites", work: "sleeping", count: quick ? 200 : 1000, ...load, only: mine, once: true },
  ];
}

async function loaded(column, site, key, task) {
  const upstream = site === "proxy" ? await started(nginx, "hello") : undefined;
  const server = await started(column.start, site, upstream?.url);
  try {
    const { rate, p50, p99, cores, memory } = await fullLoad(server, task);
    return {
      [`${key}_per_s`]: rate,
      [`${key}_per_core_s`]: rate / cores,
      [`${key}_p50_ms`]: p50,
      [`${key}_p99_ms`]: p99,
      [`${key}_mb`]: memory / 1e6,
    };
  } finally {
    await server.stop();
    await upstream?.stop();
  }
}

async function fixed(column, task) {
  const server = await started(column.start, "hello");
  try {
    await fixedRate(server, { ...task, seconds: task.warmSeconds });
    const { p50, p99 } = await fixedRate(server, task);
    return { fixed_p50_ms: p50, fixed_p99_ms: p99 };
  } finally {
    await server.stop();
  }
}

/** Starts Stockade with `count` equal sites; `visit(server)` returns the measurement. */
function withSites(count, more, visit) {
  const instances = Array.from({ length: count }, (_, i) => ({
    name: `site-${i}`,
    code: hello,
    // The first one also answers the question whether the server is up.
    urls: [`site-${i}.localhost`, ...(i === 0 ? ["127.0.0.1"] : [])],
    ...more,
  }));
  return withInstances(instances, [], visit);
}

/** Starts Stockade with these instances; `visit(server)` returns the measurement. */
async function withInstances(instances, options, visit) {
  const folder = mkdtempSync(join(tmpdir(), "stockade-sites-"));
  try {
    const server = await started((_, port) => {
      const path = join(folder, "stockade.yaml");
      writeFileSync(path, stockadeConfig({ port, instances }));
      return { command: [stockade, "serve", ...options, path], remove() {} };
    });
    try {
      return await visit(server);
    } finally {
      await server.stop();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** How much longer the slowest requests to a quiet site take while another site does all it can: medians of pairs. */
function nextToHostile({ pairs, ...load }) {
  const instances = [
    { name: "quiet", code: hello, urls: ["127.0.0.1"] },
    { name: "hostile", code: site("hostile"), urls: ["hostile.localhost"] },
  ];
  return withInstances(instances, ["--threads", "1"], async (server) => {
    const quiet = () => fullLoad(server, { ...load, connections: 4 });
    const alone = [];
    const next = [];
    for (let pair = 0; pair < pairs; pair++) {
      alone.push((await quiet()).p99);
      const seconds = load.seconds + load.warmSeconds + 1;
      // It begins with the warm-up of the quiet site. What becomes of its own requests does not matter.
      const hostile = fullLoad({ ...server, host: "hostile.localhost" }, { seconds, warmSeconds: 1, connections: 8 });
      const [{ p99 }] = await Promise.all([quiet(), hostile.catch(() => {})]);
      next.push(p99);
    }
    const ratios = next.map((p99, pair) => p99 / alone[pair]);
    return { hostile_p99_ms: median(next), hostile_p99_x: median(ratios) };
  });
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Private bytes of all processes, once they have come to rest. */
async function restingBytes(server) {
  await sleep(4000);
  return memoryOfAll(treeOf(server.pid)).private;
}

async function idleSites({ count }) {
  const one = await withSites(1, {}, restingBytes);
  const many = await withSites(1 + count, {}, restingBytes);
  return { site_mb: (many - one) / count / 1e6 };
}

async function sleepingSites({ count, ...load }) {
  const asleep = { autoscale: { min_instances: 0, max_instances: 1 } };
  const one = await withSites(1, asleep, restingBytes);
  return withSites(1 + count, asleep, async (server) => {
    const sleeping_kb = (await restingBytes(server) - one) / count / 1e3;
    const rateOf = async (number) => (await fullLoad({ ...server, host: `site-${number}.localhost` }, { ...load, connections: CONNECTIONS })).rate;
    const [first, last] = [await rateOf(0), await rateOf(count)];
    return { sleeping_kb, last_site_x: last / first };
  });
}

function run(column) {
  return (task) => {
    switch (task.work) {
      case "fixed": return fixed(column, task);
      case "hostile": return nextToHostile(task);
      case "sites": return idleSites(task);
      case "sleeping": return sleepingSites(task);
      default: return loaded(column, task.work, task.work, task);
    }
  };
}

const under = (key, name, more = {}) => [
  { key: `${key}_per_s`, text: `${name}: requests`, unit: "/s", digits: 0, more: true, ...more },
  { key: `${key}_per_core_s`, text: "  for each core in use", unit: "/s", digits: 0, more: true },
  { key: `${key}_p50_ms`, text: "  p50", unit: "ms", digits: 2 },
  { key: `${key}_p99_ms`, text: "  p99", unit: "ms", digits: 2 },
  { key: `${key}_mb`, text: "  memory of all processes (PSS)", unit: "MB", digits: 0 },
];

const figures = [
  ...under("hello", "hello"),
  { key: "fixed_p50_ms", text: `hello at ${FIXED_RATE}/s: p50`, unit: "ms", digits: 2 },
  { key: "fixed_p99_ms", text: "  p99", unit: "ms", digits: 2 },
  ...under("echo", "JSON echo"),
  ...under("stream", "1 MB stream"),
  ...under("proxy", "proxying"),
  { key: "hello_to_workerd_x", text: "hello relative to workerd", unit: "x", digits: 2, more: true, target: 3 },
  { key: "hello_to_deno_x", text: "hello relative to Deno.serve", unit: "x", digits: 2, more: true, target: 0.7 },
  { key: "echo_to_node_x", text: "JSON echo relative to Node", unit: "x", digits: 2, more: true, target: 0.6 },
  { key: "stream_to_workerd_x", text: "1 MB stream relative to workerd", unit: "x", digits: 2, more: true, target: 0.8 },
  { key: "stream_to_deno_x", text: "1 MB stream relative to Deno.serve", unit: "x", digits: 2, more: true, target: 0.5 },
  { key: "hello_p99_to_workerd_x", text: "p99 of hello relative to workerd", unit: "x", digits: 2, target: 1 },
  { key: "hostile_p99_ms", text: "p99 of a quiet site next to a hostile one", unit: "ms", digits: 2 },
  { key: "hostile_p99_x", text: "  relative to alone", unit: "x", digits: 2, target: 2 },
  { key: "site_mb", text: "memory of one more idle site", unit: "MB", digits: 2, target: 12 },
  { key: "sleeping_kb", text: "memory of one more site scaled to zero", unit: "kB", digits: 1, target: 50 },
  { key: "last_site_x", text: "requests to the last of 1,000 sites, to the first", unit: "x", digits: 2, more: true, target: 0.95 },
];

/** Comparisons with other servers: ratios within the same round. */
function compare(collected) {
  const ours = collected.container;
  const ratios = (mine, theirs) => (mine ?? []).map((value, round) => value / theirs?.[round]).filter((ratio) => Number.isFinite(ratio));
  const add = (key, values) => { if (values.length > 0) ours[key] = values; };
  if (!ours) return;
  add("hello_to_workerd_x", ratios(ours.hello_per_s, collected.workerd?.hello_per_s));
  add("hello_to_deno_x", ratios(ours.hello_per_s, collected.deno?.hello_per_s));
  add("echo_to_node_x", ratios(ours.echo_per_s, collected.node?.echo_per_s));
  add("stream_to_workerd_x", ratios(ours.stream_per_s, collected.workerd?.stream_per_s));
  add("stream_to_deno_x", ratios(ours.stream_per_s, collected.deno?.stream_per_s));
  add("hello_p99_to_workerd_x", ratios(ours.hello_p99_ms, collected.workerd?.hello_p99_ms));
}

export const serve = {
  name: "serve",
  about: "the gateway with each site isolated, compared with servers without isolation",
  title: "Sites",
  file: "bench-serve",
  columnNames: ["container", "process", "workerd", "deno", "bun", "node", "nginx"],
  columns: () => serveColumns().map((column) => ({ ...column, run: run(column) })),
  tasks,
  figures,
  compare,
  judged: "container",
  shown: ["hello_per_s", "hello_per_core_s", "hello_p99_ms", "fixed_p99_ms", "echo_per_s", "stream_per_s", "proxy_per_s", "hello_mb"],
  dashed: "the target of level container",
};
