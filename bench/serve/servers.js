// The servers that are measured: what each is started with, for one site of ./sites.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { bun, deno, modules, node, stockade, versionOf } from "../programs.js";

const sites = fileURLToPath(new URL("sites/", import.meta.url));
const workerd = join(modules, "@cloudflare", "workerd-linux-64", "bin", "workerd");
const site = (name) => join(sites, `${name}.js`);

/** A folder for the files of one run, and a way to be rid of it. */
function workFolder() {
  const folder = mkdtempSync(join(tmpdir(), "stockade-bench-"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

function inFolder(file, text, command) {
  const { folder, remove } = workFolder();
  const path = join(folder, file);
  writeFileSync(path, text(folder));
  return { command: command(path, folder), remove };
}

const INSTANCE = { memory: "256mb", cpu: "10s", concurrency: 1000, queue: 10_000 };

/** The configuration of one site, or of many alike. */
export function stockadeConfig({ port, isolation = "container", instances }) {
  return JSON.stringify({
    version: "1.0",
    listeners: [{ address: `127.0.0.1:${port}` }],
    limits: { connections: 10_000, connections_per_address: 10_000 },
    logging: { level: "error", access: false },
    watch: false,
    instances: Object.fromEntries(instances.map(({ name, ...rest }) => [name, { isolation, limits: INSTANCE, ...rest }])),
  });
}

function stockadeAt(isolation) {
  return (name, port, upstream) => {
    const instance = { name: "site", code: site(name), urls: ["*"], env: { UPSTREAM: upstream } };
    if (name === "proxy") {
      instance.data_guard = {
        rules: [{ addresses: ["127.0.0.1"], ports: [Number(new URL(upstream).port)], methods: ["GET"] }],
        allow_private: ["127.0.0.1"],
        rate: 1_000_000,
        concurrent: 1000,
        queue: 10_000,
      };
    }
    return inFolder(
      "stockade.yaml",
      () => stockadeConfig({ port, isolation, instances: [instance] }),
      // Every server of this table has one thread for its clients.
      (path) => [stockade, "serve", "--threads", "1", path],
    );
  };
}

const workerdConfig = (name, port, upstream) => `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .site), (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")]
);
const site :Workerd.Worker = (
  modules = [(name = "site", esModule = embed "site.js")],
  bindings = [(name = "UPSTREAM", text = "${upstream}")],
  compatibilityDate = "2026-01-01"
);
`;

const nginxConfig = (folder, name, port, upstream) => `worker_processes 1; daemon off; master_process off;
error_log /dev/null; pid ${folder}/pid;
events { worker_connections 4096; }
http {
  access_log off; client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder}; keepalive_requests 1000000000;
  upstream origin { server ${new URL(upstream).host}; keepalive 64; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / { ${name === "proxy" ? 'proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";' : 'return 200 "Hello, World!";'} }
  }
}
`;

/** Starts nginx, which also is what the proxies fetch from. */
export function nginx(name, port, upstream = "http://127.0.0.1:1") {
  return inFolder("nginx.conf", (folder) => nginxConfig(folder, name, port, upstream), (path, folder) => ["nginx", "-p", folder, "-c", path]);
}

const plain = (command) => ({ command, remove() {} });

function versionOrMissing(program, how) {
  try {
    return { version: how?.() ?? versionOf(program) };
  } catch {
    return { missing: `${program} does not run` };
  }
}

const workerdVersion = () => execFileSync(workerd, ["--version"], { encoding: "utf8" }).match(/\d[\d.-]+/)[0];
const nginxVersion = () => execFileSync("sh", ["-c", "nginx -v 2>&1"], { encoding: "utf8" }).match(/\d[\d.]+/)[0];

/** Every column: its name, and the command for a site on a port. */
export function serveColumns() {
  const ours = existsSync(stockade) ? { version: versionOf(stockade) } : { missing: `no ${stockade}: ./x build` };
  return [
    { id: "container", label: "Stockade container", ours: true, ...ours, start: stockadeAt("container") },
    { id: "process", label: "Stockade process", ours: true, ...ours, start: stockadeAt("process") },
    {
      id: "workerd",
      label: "workerd",
      ...versionOrMissing(workerd, workerdVersion),
      start: (name, port, upstream) => {
        const { folder, remove } = workFolder();
        writeFileSync(join(folder, "config.capnp"), workerdConfig(name, port, upstream));
        execFileSync("cp", [site(name), join(folder, "site.js")]);
        return { command: [workerd, "serve", join(folder, "config.capnp")], remove };
      },
    },
    {
      id: "deno",
      label: "Deno.serve",
      ...versionOrMissing(deno),
      start: (name, port) => plain([deno, "serve", "--allow-net", "--allow-env", "--host", "127.0.0.1", "--port", String(port), site(name)]),
    },
    { id: "bun", label: "Bun.serve", ...versionOrMissing(bun), start: (name) => plain([bun, site(name)]) },
    { id: "node", label: "Node", ...versionOrMissing(node), start: (name, port) => plain([node, site("node"), name, String(port)]) },
    {
      id: "nginx",
      label: "nginx (routing only)",
      ...versionOrMissing("nginx", nginxVersion),
      start: nginx,
    },
  ];
}
