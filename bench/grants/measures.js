// What guests are granted, next to the same work without isolation: tasks, figures.

import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { memoryOfAll, treeOf } from "../processes.js";
import { node, stockade, versionOf } from "../programs.js";
import { started } from "../serve/load.js";
import { stockadeConfig } from "../serve/servers.js";
import { compareStatements, missing, statementFigures, statements } from "./database.js";

const site = fileURLToPath(new URL("sites/sockets.js", import.meta.url));
const PIECE = Buffer.alloc(64 * 1024);

function tasks(quick) {
  return [
    { name: "bytes sent", work: "send", n: quick ? 64 << 20 : 256 << 20 },
    { name: "bytes received", work: "receive", n: quick ? 64 << 20 : 256 << 20 },
    { name: "turns of 16 bytes", work: "turns", n: quick ? 2000 : 20_000 },
    { name: "idle connections", work: "idle", n: quick ? 200 : 1000, only: ["container"], once: true },
    ...(missing ? [] : [{ name: "statements of PostgreSQL", work: "statements", n: quick ? 2000 : 20_000 }]),
  ];
}

/** The other end: takes all, sends a number of bytes, or echoes. */
const servers = {
  send: () => (socket) => socket.resume(),
  receive: (bytes) => (socket) => {
    let left = bytes;
    const more = () => {
      while (left > 0) {
        left -= PIECE.length;
        if (!socket.write(PIECE)) return;
      }
      socket.end();
    };
    socket.on("drain", more);
    more();
  },
  turns: () => (socket) => socket.setNoDelay().pipe(socket),
  idle: () => (socket) => socket.resume(),
};

async function withServer({ work, n }, visit) {
  const server = createServer(servers[work](n));
  server.on("connection", (socket) => socket.on("error", () => {}));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    return await visit(server.address().port);
  } finally {
    server.close();
  }
}

/** The same without isolation: Node's own sockets. */
const loopback = {
  async send(port, bytes) {
    const socket = connect(port, "127.0.0.1").resume();
    for (let sent = 0; sent < bytes; sent += PIECE.length) if (!socket.write(PIECE)) await once(socket, "drain");
    socket.end();
    await once(socket, "close");
  },
  async receive(port) {
    const socket = connect(port, "127.0.0.1").resume();
    await once(socket, "close");
  },
  async turns(port, count) {
    const socket = connect(port, "127.0.0.1").setNoDelay();
    for (let turn = 0; turn < count; turn++) {
      socket.write(PIECE.subarray(0, 16));
      await once(socket, "data");
    }
    socket.destroy();
  },
};

const figuresOf = ({ work, n }, ms) => work === "turns" ? { turn_us: ms * 1000 / n } : { [`${work}_mb_per_s`]: n / 1e3 / ms };

function onLoopback(task) {
  if (task.work === "statements") return statements("loopback", task);
  return withServer(task, async (port) => {
    const begun = performance.now();
    await loopback[task.work](port, task.n);
    return figuresOf(task, performance.now() - begun);
  });
}

function inContainer(task) {
  if (task.work === "statements") return statements("container", task);
  return withServer(task, async (to) => {
    const folder = mkdtempSync(join(tmpdir(), "stockade-grants-"));
    const sockets = {
      connect: [{ addresses: ["127.0.0.1"], ports: [to], tls: "off" }],
      allow_private: ["127.0.0.1"],
      concurrent: 10_000,
      rate: 1_000_000,
    };
    const limits = { memory: "256mb", cpu: "60s", timeout: "10m", connections: 10_000 };
    const server = await started((_, port) => {
      const path = join(folder, "stockade.yaml");
      writeFileSync(path, stockadeConfig({ port, instances: [{ name: "site", code: site, urls: ["*"], sockets, limits }] }));
      return { command: [stockade, "serve", path], remove() {} };
    });
    try {
      const before = memoryOfAll(treeOf(server.pid)).private;
      const answer = await fetch(`${server.url}${task.work}?to=127.0.0.1:${to}&n=${task.n}`);
      if (!answer.ok) throw new Error(await answer.text());
      const ms = await answer.json();
      if (task.work === "idle") return { idle_kb: (memoryOfAll(treeOf(server.pid)).private - before) / 1e3 / task.n };
      return figuresOf(task, ms);
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

function columns() {
  if (missing) console.error(`bench: without statements of PostgreSQL: ${missing}`);
  const ours = existsSync(stockade) ? { version: versionOf(stockade) } : { missing: `no ${stockade}: ./x build` };
  return [
    { id: "container", label: "Stockade container", ours: true, ...ours, run: inContainer },
    { id: "loopback", label: "Node, not isolated", version: versionOf(node), run: onLoopback },
  ];
}

const figures = [
  { key: "send_mb_per_s", text: "bytes sent over a socket", unit: "MB/s", digits: 0, more: true },
  { key: "receive_mb_per_s", text: "bytes received over a socket", unit: "MB/s", digits: 0, more: true },
  { key: "turn_us", text: "16 bytes there and back", unit: "\u00b5s", digits: 0 },
  { key: "idle_kb", text: "memory of one more idle socket, guest included", unit: "kB", digits: 1 },
  ...statementFigures,
];

export const grants = {
  name: "grants",
  about: "what guests are granted, next to the same work without isolation",
  title: "Grants",
  file: "bench-grants",
  columnNames: ["container", "loopback"],
  columns,
  tasks,
  figures,
  compare: compareStatements,
  judged: "container",
  shown: [
    "send_mb_per_s",
    "receive_mb_per_s",
    "turn_us",
    ...[1, 10, 50].flatMap((level) => ["door", "sql"].flatMap((way) => [`${way}_${level}_p50_us`, `${way}_${level}_per_s`])),
  ],
  dashed: "no target",
};
