// What an operator's features cost each request: one site, with API keys, limits, the audit log, traces and usage off and on.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { stockade, versionOf } from "../programs.js";
import { fullLoad, started } from "../serve/load.js";
import { stockadeConfig } from "../serve/servers.js";

const hello = fileURLToPath(new URL("../serve/sites/hello.js", import.meta.url));
const CONNECTIONS = 32;

const key = { auth: true };
/** None of them is ever reached. */
const limits = {
  rate_limits: [
    { by: "key", requests: "1000000000/s" },
    { by: "address", requests: "1000000000/s" },
    { by: "instance", bytes_out: "100tb/s" },
  ],
};
const cpuLimit = { rate_limits: [{ by: "key", cpu: "1000000s/s" }] };
const audit = { audit: { folder: "./audit" } };
const usage = { usage: { path: "./usage.db" } };
/** A client that brings no trace of its own: its requests get one that is not recorded. */
const traces = { tracing: { endpoint: "http://127.0.0.1:9", sampling: 0 } };

/** What each column adds to the instance and to the file. */
const FEATURES = {
  off: {},
  key: { instance: key },
  limits: { instance: { ...key, ...limits } },
  cpu: { instance: { ...key, ...cpuLimit } },
  audit: { file: audit },
  traces: { file: traces },
  usage: { file: usage },
  all: { instance: { ...key, ...limits }, file: { ...audit, ...traces } },
};

const LABELS = {
  off: "all off",
  key: "an API key",
  limits: "a key, 3 limits",
  cpu: "a key, 1 limit of CPU",
  audit: "audit",
  traces: "traces (sampling 0)",
  usage: "usage",
  all: "all but usage",
};

/** A server with these features. Requests have a key in each column, so that only what is done with it differs. */
async function start({ instance = {}, file = {} }) {
  const folder = mkdtempSync(join(tmpdir(), "stockade-operate-"));
  const path = join(folder, "stockade.yaml");
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const make = (_, port) => {
    const instances = [{ name: "site", code: hello, urls: ["*"], ...instance }];
    const config = JSON.parse(stockadeConfig({ port, isolation: "container", instances }));
    writeFileSync(path, JSON.stringify({ ...config, ...file }));
    return { command: [stockade, "serve", "--threads", "1", path], remove() {} };
  };
  const place = ["--store", join(folder, "keys.db"), "--pepper", join(folder, "keys.pepper")];
  const made = execFileSync(stockade, ["keys", "create", "bench", "--scope", "read", ...place], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const headers = [`authorization: Bearer ${made.trim()}`];
  const server = await started(make);
  const stop = async () => {
    await server.stop();
    remove();
  };
  return { ...server, headers, stop };
}

/**
 * All columns at once, so that whatever else the machine does meets all of them: each server is loaded for a short time, in
 * turns. CPU is that of all of Stockade's processes.
 */
async function inTurns({ turns, seconds, warmSeconds }, columns) {
  const servers = [];
  const sums = new Map(columns.map(({ id }) => [id, { rates: [], cpu: [] }]));
  try {
    for (const { id } of columns) servers.push([id, await start(FEATURES[id])]);
    for (let turn = 0; turn < turns; turn++) {
      for (const [id, server] of turn % 2 ? servers.toReversed() : servers) {
        const load = { seconds, warmSeconds: turn === 0 ? warmSeconds : 1, connections: CONNECTIONS };
        const { rate, cores } = await fullLoad(server, load);
        sums.get(id).rates.push(rate);
        sums.get(id).cpu.push((cores / rate) * 1e6);
      }
    }
  } finally {
    for (const [, server] of servers) await server.stop();
  }
  return Object.fromEntries([...sums].map(([id, { rates, cpu }]) => [id, { per_s: median(rates), cpu_us: median(cpu) }]));
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

function tasks(quick) {
  const load = quick ? { turns: 3, seconds: 2, warmSeconds: 2 } : { turns: 9, seconds: 4, warmSeconds: 3 };
  return [{ name: "hello", work: "hello", ...load, together: inTurns }];
}

/** Each column relative to the one with everything off, within the same round. */
function compare(collected) {
  const off = collected.off;
  for (const figures of Object.values(collected)) {
    const against = (name, of) => (figures[name] ?? []).map((value, round) => of(value, off?.[name]?.[round])).filter(Number.isFinite);
    const lost = against("per_s", (value, base) => (1 - value / base) * 100);
    const more = against("cpu_us", (value, base) => value - base);
    if (lost.length > 0) figures.lost_percent = lost;
    if (more.length > 0) figures.more_us = more;
  }
}

export const operate = {
  name: "operate",
  about: "what API keys, limits, the audit log, traces and usage cost each request",
  title: "Keys, limits, audit, traces, usage",
  file: "bench-operate",
  columnNames: Object.keys(FEATURES),
  columns: () => {
    const ours = existsSync(stockade) ? { version: versionOf(stockade) } : { missing: `no ${stockade}: ./x build` };
    return Object.entries(LABELS).map(([id, label]) => ({ id, label, ours: true, ...ours }));
  },
  tasks,
  figures: [
    { key: "per_s", text: "requests", unit: "/s", digits: 0, more: true },
    { key: "lost_percent", text: "  lost", unit: "%", digits: 1, target: 5 },
    { key: "cpu_us", text: "CPU of a request, all processes", unit: "µs", digits: 1 },
    { key: "more_us", text: "  more than with all off", unit: "µs", digits: 1 },
  ],
  compare,
  judged: "all",
  shown: ["per_s", "cpu_us"],
  dashed: "the target with key, limits, audit and traces",
};
