// PostgreSQL for one measurement: `select 1` by the same driver in Node and in a site through the door, and by `sql`.

import { execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { modules, node, stockade } from "../programs.js";
import { freePort, started } from "../serve/load.js";
import { stockadeConfig } from "../serve/servers.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const VERSIONS = "/usr/lib/postgresql";
const initdb = existsSync(VERSIONS)
  ? readdirSync(VERSIONS).map((version) => join(VERSIONS, version, "bin", "initdb")).filter(existsSync).at(-1)
  : undefined;
const LEVELS = [1, 10, 50];
const PASSWORD = "measured";

/** Why there is nothing to measure, if so. */
export const missing = initdb === undefined
  ? "no PostgreSQL: apt-get install postgresql"
  : existsSync(join(modules, "pg")) && existsSync(join(modules, "esbuild"))
  ? undefined
  : "the packages pg and esbuild could not be installed";

/** PostgreSQL in a folder, as an ordinary user. */
async function postgres(folder) {
  const port = await freePort();
  const root = userInfo().uid === 0;
  const as = (command) => (root ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", ...command] : command);
  const data = join(folder, "data");
  mkdirSync(data);
  writeFileSync(join(folder, "password"), PASSWORD);
  if (root) {
    const uid = Number(execFileSync("id", ["-u", "postgres"], { encoding: "utf8" }));
    for (const path of [folder, data, join(folder, "password")]) chownSync(path, uid, uid);
  }
  const run = ([program, ...args]) => execFileSync(program, args, { cwd: folder, stdio: "ignore" });
  run(as([initdb, "-D", data, "-U", "app", "--pwfile", join(folder, "password"), "-A", "scram-sha-256", "--no-sync"]));
  const settings = ["fsync=off", `port=${port}`, "listen_addresses=127.0.0.1", `unix_socket_directories=${data}`];
  const [program, ...args] = as([join(dirname(initdb), "postgres"), "-D", data, ...settings.flatMap((one) => ["-c", one])]);
  const server = spawn(program, args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  await new Promise((resolve, reject) => {
    let log = "";
    server.stderr.setEncoding("utf8").on("data", (text) => {
      log = (log + text).slice(-2000);
      if (log.includes("ready to accept connections")) resolve();
    });
    server.on("exit", () => reject(new Error(`PostgreSQL did not start: ${log}`)));
  });
  return { port, stop: () => new Promise((resolve) => { server.on("exit", resolve); server.kill("SIGINT"); }) };
}

async function bundled(folder) {
  const { build } = await import("esbuild");
  const outfile = join(folder, "site.js");
  await build({
    entryPoints: [join(here, "sites", "database.js")],
    nodePaths: [modules],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    conditions: ["workerd"],
    external: ["cloudflare:sockets", "pg-native"],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire('/');" },
    logLevel: "error",
  });
  return outfile;
}

/** Calls `ask(url)` for each way and level, in a site in a container. */
async function inSite(folder, port, n) {
  const code = await bundled(folder);
  const found = {};
  const limits = { memory: "512mb", cpu: "60s", timeout: "10m", connections: 1000 };
  const grants = {
    DB: {
      postgres: {
        url: { file: "url.txt" },
        allow_superuser: true,
        pool: LEVELS.at(-1),
        limits: { rate: 1_000_000, concurrent: 200, queue: 1000, handles: LEVELS.at(-1) },
      },
    },
  };
  writeFileSync(join(folder, "url.txt"), `postgres://app:${PASSWORD}@127.0.0.1:${port}/postgres`);
  const server = await started((_, port) => {
    const path = join(folder, "stockade.yaml");
    writeFileSync(path, stockadeConfig({ port, instances: [{ name: "site", code, urls: ["*"], grants, limits }] }));
    return { command: [stockade, "serve", path], remove() {} };
  });
  try {
    for (const level of LEVELS) {
      for (const way of ["door", "sql"]) {
        const answer = await fetch(`${server.url}${way}?level=${level}&n=${n}`);
        if (!answer.ok) throw new Error(`${way}: ${await answer.text()}`);
        named(found, `${way}_${level}`, await answer.json());
      }
    }
  } finally {
    await server.stop();
  }
  return found;
}

function inNode(folder, port, n) {
  const found = {};
  const url = `postgres://app:${PASSWORD}@127.0.0.1:${port}/postgres`;
  for (const level of LEVELS) {
    const text = execFileSync(node, [join(here, "node.js"), url, level, n], { encoding: "utf8" });
    named(found, `door_${level}`, JSON.parse(text));
  }
  return found;
}

function named(found, prefix, figures) {
  for (const [key, value] of Object.entries(figures)) found[`${prefix}_${key}`] = value;
}

/** The figures of one column. */
export async function statements(column, { n }) {
  const folder = mkdtempSync(join(tmpdir(), "stockade-grants-"));
  const data = join(folder, "database");
  mkdirSync(data);
  let database;
  try {
    // The server's user must reach its folder.
    execFileSync("chmod", ["755", folder]);
    database = await postgres(data);
    return await (column === "container" ? inSite : inNode)(folder, database.port, n);
  } finally {
    await database?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What a site takes relative to Node, in the same round. */
export function compareStatements({ container, loopback }) {
  for (const way of ["door", "sql"]) {
    for (const level of LEVELS) {
      for (const [key, name] of [["p50_us", "latency"], ["p99_us", "p99"], ["per_s", "throughput"]]) {
        const [ours, theirs] = [container?.[`${way}_${level}_${key}`], loopback?.[`door_${level}_${key}`]];
        if (!ours || !theirs) continue;
        container[`${way}_${level}_${name}_x`] = ours.map((value, i) => value / theirs[Math.min(i, theirs.length - 1)]);
      }
    }
  }
}

/** The figures, and the targets of a site relative to Node. */
export const statementFigures = ["door", "sql"].flatMap((way) => {
  const by = way === "door" ? "by npm's pg" : "by sql";
  return LEVELS.flatMap((level) => {
    const at = `select 1 ${by}, ${level} at a time`;
    const key = `${way}_${level}`;
    return [
      { key: `${key}_p50_us`, text: `${at}, median`, unit: "\u00b5s", digits: 0 },
      { key: `${key}_p99_us`, text: `${at}, p99`, unit: "\u00b5s", digits: 0 },
      { key: `${key}_per_s`, text: `${at}, per second`, unit: "/s", digits: 0, more: true },
      { key: `${key}_latency_x`, text: `${at}, median relative to Node`, unit: "x", digits: 2, target: 2 },
      { key: `${key}_p99_x`, text: `${at}, p99 relative to Node`, unit: "x", digits: 2 },
      { key: `${key}_throughput_x`, text: `${at}, per second relative to Node`, unit: "x", digits: 2, more: true, target: 0.5 },
    ];
  });
});
