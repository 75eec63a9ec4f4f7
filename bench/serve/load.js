// One server under load: started, warmed up, loaded, measured and ended.

import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { memoryOfAll, ranNs, treeOf } from "../processes.js";

const run = promisify(execFile);
const START_MS = 20_000;

export async function freePort() {
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

/** Starts a server and waits until it answers; `{ pid, port, url, stop }`. */
export async function started(start, name, upstream) {
  const port = await freePort();
  const { command: [program, ...args], remove } = start(name, port, upstream);
  const env = { ...process.env, PORT: String(port), UPSTREAM: upstream ?? "" };
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => { said = (said + text).slice(-2000); });
  const ended = new Promise((closed) => child.on("close", closed));
  const url = `http://127.0.0.1:${port}/`;
  const stop = async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
    remove();
  };
  const deadline = Date.now() + START_MS;
  for (;;) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
      await response.arrayBuffer();
      // A site that wants a body refuses this one, and does answer.
      if (response.status < 502) return { pid: child.pid, port, url, stop };
    } catch {
      // Not yet.
    }
    if (Date.now() > deadline || child.exitCode !== null) {
      await stop();
      throw new Error(`it does not answer: ${said.trim().split("\n").slice(-3).join(" | ")}`);
    }
    await sleep(20);
  }
}

const UNITS = { us: 1e-3, ms: 1, s: 1000, m: 60_000 };
const milliseconds = (text) => {
  const [, number, unit] = text.match(/^([\d.]+)(us|ms|s|m)$/);
  return Number(number) * UNITS[unit];
};

function readWrk(text) {
  const number = (pattern) => text.match(pattern)?.[1];
  const failed = number(/Non-2xx or 3xx responses: (\d+)/) ?? number(/Socket errors: (.*)/);
  if (failed) throw new Error(`wrk: failed requests: ${failed}`);
  return {
    rate: Number(number(/Requests\/sec:\s+([\d.]+)/)),
    p50: milliseconds(number(/^\s+50%\s+(\S+)/m)),
    p99: milliseconds(number(/^\s+99%\s+(\S+)/m)),
  };
}

async function wrk({ url, host, headers = [] }, { seconds, connections, script }) {
  const more = [...(script ? ["-s", script] : []), ...(host ? ["-H", `Host: ${host}`] : []), ...headers.flatMap((header) => ["-H", header])];
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", ...more, url];
  const { stdout } = await run("wrk", args);
  return readWrk(stdout);
}

const POST = `wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '${JSON.stringify({ user: "ada", roles: ["admin", "editor"], visits: 1815, text: "x".repeat(160) })}'
`;

/** Requests a second, latencies, cores in use and memory of a server under full load. */
export async function fullLoad(server, { seconds, warmSeconds, connections, post }) {
  const folder = mkdtempSync(join(tmpdir(), "stockade-wrk-"));
  try {
    const script = post ? join(folder, "post.lua") : undefined;
    if (script) writeFileSync(script, POST);
    await wrk(server, { seconds: warmSeconds, connections, script });
    const pids = treeOf(server.pid);
    const before = { ran: ranNs(pids), at: process.hrtime.bigint() };
    const load = wrk(server, { seconds, connections, script });
    await sleep(seconds * 900);
    const ran = ranNs(pids) - before.ran;
    const cores = ran / Number(process.hrtime.bigint() - before.at);
    const { proportional } = memoryOfAll(pids);
    return { ...(await load), cores, memory: proportional };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Latencies at a fixed rate, by oha, which corrects for requests that waited to be sent. */
export async function fixedRate(server, { seconds, rate, connections }) {
  const args = ["--no-tui", "--output-format", "json", "-z", `${seconds}s`, "-q", String(rate), "-c", String(connections), "--latency-correction", server.url];
  const { stdout } = await run(process.env.OHA ?? "oha", args, { maxBuffer: 1 << 26 });
  const { latencyPercentiles, summary } = JSON.parse(stdout);
  if (summary.successRate < 1) throw new Error(`oha: ${((1 - summary.successRate) * 100).toFixed(1)} % of the requests failed`);
  return { p50: latencyPercentiles.p50 * 1000, p99: latencyPercentiles.p99 * 1000 };
}
