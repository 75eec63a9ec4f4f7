// bwrap (Debian's package bubblewrap) around Node and Deno as columns: all namespaces, no capabilities,
// and a root with nothing in it but the program, its libraries and a script of a few lines, read-only.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { memoryOfAll, treeOf } from "../processes.js";
import { deno, node, versionOf } from "../programs.js";

const MB = 1e6;
const GUEST = fileURLToPath(new URL("bubblewrap-guest.js", import.meta.url));

function bwrapVersion() {
  try {
    return versionOf("bwrap");
  } catch {
    return undefined;
  }
}

/** The shared libraries of a program, its loader among them. */
function librariesOf(program) {
  return [...new Set(execFileSync("ldd", [program], { encoding: "utf8" }).match(/\/\S+/g))];
}

function commandOf(program, args) {
  const bind = (from, to) => ["--ro-bind", realpathSync(from), to];
  return [
    "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000", "--hostname", "guest",
    "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv", "--setenv", "DENO_DIR", "/none",
    ...librariesOf(program).flatMap((library) => bind(library, library)),
    ...bind(program, "/program"), ...bind(GUEST, "/guest.js"),
    "--remount-ro", "/", "--chdir", "/", "/program", ...args,
  ];
}

/** Resolves with a started guest when its first byte is here. */
function start(args) {
  const child = spawn("bwrap", args, { stdio: ["pipe", "pipe", "pipe"] });
  let errors = "";
  child.stderr.on("data", (text) => { errors = (errors + text).slice(-2000); });
  const closed = new Promise((resolve) => child.on("close", resolve));
  const end = async () => {
    child.kill("SIGKILL");
    await closed;
  };
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => reject(new Error(`bwrap ended: ${errors.trim().split("\n")[0] || "it said nothing"}`)));
    child.stdout.once("data", () => resolve({ child, end }));
  });
}

const sorted = (times) => times.sort((a, b) => a - b);
const quantile = (times, q) => times[Math.min(times.length - 1, Math.floor(times.length * q))];

async function create(args, { count, pauseMs = 20 }) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const began = performance.now();
    const guest = await start(args);
    times.push(performance.now() - began);
    await guest.end();
    await sleep(pauseMs);
  }
  sorted(times);
  return { create_ms: quantile(times, 0.5), create_p95_ms: quantile(times, 0.95) };
}

async function roundTrip(args, { count }) {
  const { child, end } = await start(args);
  const times = [];
  for (let i = 0; i < count * 1.1; i++) {
    const began = performance.now();
    const answer = new Promise((resolve) => child.stdout.once("data", resolve));
    child.stdin.write(`${JSON.stringify({ kind: "echo", i })}\n`);
    await answer;
    if (i >= count / 10) times.push((performance.now() - began) * 1000);
  }
  await end();
  sorted(times);
  return {
    round_trip_us: quantile(times, 0.5),
    round_trip_p95_us: quantile(times, 0.95),
    round_trip_p99_us: quantile(times, 0.99),
  };
}

async function memory(args, { count, settleMs }) {
  const guests = [];
  try {
    for (let i = 0; i < count; i++) guests.push(await start(args));
    await sleep(settleMs);
    const sum = memoryOfAll(guests.flatMap(({ child }) => treeOf(child.pid)));
    if (sum.proportional === 0) throw new Error("the kernel does not show this user the memory in bwrap; run as root");
    return {
      private_mb: sum.private / count / MB,
      pss_mb: sum.proportional / count / MB,
      resident_mb: sum.resident / count / MB,
      shared_percent: (1 - sum.private / sum.resident) * 100,
    };
  } finally {
    await Promise.all(guests.map(({ end }) => end()));
  }
}

const works = { create, roundTrip, memory };

function column(id, label, program, args) {
  const bwrap = bwrapVersion();
  if (bwrap === undefined) return { id, label, missing: "bwrap is not installed (apt install bubblewrap)" };
  if (!existsSync(program)) return { id, label, missing: `${program} is not installed` };
  const command = commandOf(program, args);
  return { id, label, version: `${bwrap}, ${versionOf(program)}`, run: (task) => works[task.work](command, task) };
}

export const bubblewrapColumns = () => [
  column("bwrap-node", "bwrap node", node, ["/guest.js"]),
  column("bwrap-deno", "bwrap deno", deno, ["run", "--quiet", "--no-config", "--no-lock", "/guest.js"]),
];
