// The `Deno` namespace of host scripts.
//
// Deliberately absent, because this runtime does not have them: `Command`, `dlopen`, `openKv`, `cron`,
// `Worker`, `permissions` (a host script may do everything its user may), `bundle`, `jupyter`, `test`.

import { core } from "ext:core/mod.js";
import {
  op_host_args,
  op_host_interrupts_taken,
  op_host_kill,
  op_host_kill_by_number,
  op_host_main_module,
  op_host_no_color,
  op_host_pid,
  op_host_ppid,
  op_runtime_cpu_usage,
  op_runtime_memory_usage,
} from "ext:core/ops";
import { errors } from "ext:stockade_host/errors.js";
import { consoleSize, isatty } from "ext:stockade_host/terminal.js";
import { watchFs } from "ext:stockade_host/watch.js";

const { inspect } = core.loadExtScript("ext:deno_web/01_console.js");
const fs = core.loadExtScript("ext:deno_fs/30_fs.js");
const httpClient = core.loadExtScript("ext:deno_fetch/22_http_client.js");
const io = core.loadExtScript("ext:deno_io/12_io.js");
const net = core.loadExtScript("ext:deno_net/01_net.js");
const os = core.loadExtScript("ext:deno_os/30_os.js");
const signals = core.loadExtScript("ext:deno_os/40_signals.js");
const timers = core.loadExtScript("ext:deno_web/02_timers.js");
const tls = core.loadExtScript("ext:deno_net/02_tls.js");

// What there is of sockets: the streams of TCP and of this machine.
function checkTransport({ transport = "tcp" }) {
  if (transport !== "tcp" && transport !== "unix") {
    throw new errors.NotSupported(
      `the transport '${transport}' is not in this version: use 'tcp' or 'unix'`,
    );
  }
}

// Options of TLS with `certFile` and `keyFile` read.
function withTlsFiles(options) {
  const { certFile, keyFile, ...others } = options;
  if (certFile !== undefined) others.cert = fs.readTextFileSync(certFile);
  if (keyFile !== undefined) others.key = fs.readTextFileSync(keyFile);
  return others;
}

const pick = (from, names) => Object.fromEntries(names.map((name) => [name, from[name]]));

// File functions that come in two forms, `name` and `nameSync`.
const FILE_PAIRS = [
  "chmod",
  "chown",
  "copyFile",
  "create",
  "link",
  "lstat",
  "makeTempDir",
  "makeTempFile",
  "mkdir",
  "open",
  "readDir",
  "readFile",
  "readLink",
  "readTextFile",
  "realPath",
  "remove",
  "rename",
  "stat",
  "symlink",
  "truncate",
  "utime",
  "writeFile",
  "writeTextFile",
];

export const version = { deno: "", v8: "", typescript: "", stockade: "" };

function memoryUsage() {
  const usage = new Float64Array(4);
  op_runtime_memory_usage(usage);
  const [rss, heapTotal, heapUsed, external] = usage;
  return { rss, heapTotal, heapUsed, external };
}

function cpuUsage() {
  const usage = new Float64Array(4);
  op_runtime_cpu_usage(usage);
  const [system, user] = usage;
  return { system, user };
}

// A listener for SIGINT decides what Ctrl-C does.
const interruptListeners = new Set();

function addSignalListener(signal, listener) {
  signals.addSignalListener(signal, listener);
  if (signal !== "SIGINT") return;
  interruptListeners.add(listener);
  op_host_interrupts_taken(true);
}

function removeSignalListener(signal, listener) {
  signals.removeSignalListener(signal, listener);
  if (signal !== "SIGINT") return;
  interruptListeners.delete(listener);
  op_host_interrupts_taken(interruptListeners.size > 0);
}

export const Deno = {
  ...pick(fs, FILE_PAIRS.flatMap((name) => [name, `${name}Sync`])),
  ...pick(fs, ["chdir", "cwd", "FsFile", "umask"]),
  ...pick(io, ["SeekMode", "stdin", "stdout", "stderr"]),
  ...pick(net, ["resolveDns"]),
  ...pick(tls, ["startTls"]),
  async connect(options) {
    checkTransport(options);
    return await net.connect(options);
  },
  async connectTls(options) {
    return await tls.connectTls(withTlsFiles(options));
  },
  listen(options) {
    checkTransport(options);
    return net.listen(options);
  },
  listenTls(options) {
    return tls.listenTls(withTlsFiles(options));
  },
  ...pick(httpClient, ["createHttpClient", "HttpClient"]),
  ...pick(os, [
    "env",
    "execPath",
    "exit",
    "gid",
    "hostname",
    "loadavg",
    "networkInterfaces",
    "osRelease",
    "osUptime",
    "systemMemoryInfo",
    "uid",
  ]),
  addSignalListener,
  removeSignalListener,
  ...pick(timers, ["refTimer", "unrefTimer"]),
  build: core.build,
  consoleSize,
  cpuUsage,
  errors,
  inspect,
  isatty,
  kill(pid, signal = "SIGTERM") {
    if (typeof signal === "number") op_host_kill_by_number(pid, signal);
    else op_host_kill(pid, String(signal));
  },
  memoryUsage,
  version,
  watchFs,
};

// Loaded when first read, because they bring the streams with them.
core.defineGlobalProperties(Deno, {
  serve: core.propWritableLazyLoaded(
    (m) => m.serve,
    () => core.loadExtScript("ext:deno_http/00_serve.ts"),
  ),
  upgradeWebSocket: core.propWritableLazyLoaded(
    (m) => m.upgradeWebSocket,
    () => core.loadExtScript("ext:deno_http/02_websocket.ts"),
  ),
});

let args;
Object.defineProperties(Deno, {
  args: core.propGetterOnly(() => (args ??= op_host_args())),
  exitCode: {
    get: os.getExitCode,
    set: os.setExitCode,
    enumerable: true,
    configurable: true,
  },
  mainModule: core.propGetterOnly(() => op_host_main_module()),
  noColor: core.propGetterOnly(() => op_host_no_color()),
  pid: core.propGetterOnly(() => op_host_pid()),
  ppid: core.propGetterOnly(() => op_host_ppid()),
});
