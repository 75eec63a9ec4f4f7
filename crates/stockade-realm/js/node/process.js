import EventEmitter from "node:events";
import { coded, missing } from "internal:errors";

// A site's own `process`, where libraries find it without importing anything; others get one.
const process = globalThis.process ?? {};

const VERSION = "22.12.0";
const started = performance.now();

function hrtime(since) {
  const now = performance.now() * 1e6;
  let seconds = Math.floor(now / 1e9);
  let nanoseconds = Math.floor(now % 1e9);
  if (since !== undefined) {
    seconds -= since[0];
    nanoseconds -= since[1];
    if (nanoseconds < 0) {
      seconds--;
      nanoseconds += 1e9;
    }
  }
  return [seconds, nanoseconds];
}
hrtime.bigint = () => BigInt(Math.floor(performance.now() * 1e6));

const memoryUsage = () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 });
memoryUsage.rss = () => 0;

function emitWarning(warning, options) {
  const type = typeof options === "string" ? options : options?.type ?? "Warning";
  const text = warning instanceof Error ? String(warning) : `${type}: ${warning}`;
  console.warn(text);
}

function nextTick(callback, ...args) {
  if (typeof callback !== "function") {
    throw coded(TypeError, "ERR_INVALID_ARG_TYPE", "the callback must be a function");
  }
  queueMicrotask(args.length === 0 ? callback : () => callback(...args));
}

const stream = (write) => ({ write, isTTY: false, columns: 80, fd: -1, on() {}, once() {}, end() {} });
const line = (log) => (text) => {
  log(String(text).replace(/\n$/, ""));
  return true;
};

const own = {
  arch: "x64",
  argv: ["stockade"],
  argv0: "stockade",
  browser: false,
  config: {},
  cwd: () => "/",
  chdir: missing("process.chdir", "a guest has no folders"),
  emitWarning,
  env: {},
  execArgv: [],
  execPath: "/stockade",
  exit: missing("process.exit", "the host ends its guests"),
  exitCode: undefined,
  features: {},
  hrtime,
  kill: missing("process.kill", "a guest sees no processes"),
  memoryUsage,
  nextTick,
  pid: 1,
  platform: "linux",
  ppid: 0,
  release: { name: "node" },
  stderr: stream(line((text) => console.error(text))),
  stdout: stream(line((text) => console.log(text))),
  title: "stockade",
  umask: () => 0o022,
  uptime: () => (performance.now() - started) / 1000,
  version: `v${VERSION}`,
};
for (const [name, value] of Object.entries(own)) process[name] ??= value;
process.versions ??= {};
process.versions.node ??= VERSION;

const events = new EventEmitter();
for (const name of [
  "addListener",
  "emit",
  "eventNames",
  "getMaxListeners",
  "listenerCount",
  "listeners",
  "off",
  "on",
  "once",
  "prependListener",
  "prependOnceListener",
  "rawListeners",
  "removeAllListeners",
  "removeListener",
  "setMaxListeners",
]) {
  process[name] ??= (...args) => {
    const result = events[name](...args);
    return result === events ? process : result;
  };
}

export default process;
export const {
  arch,
  argv,
  argv0,
  browser,
  config,
  cwd,
  env,
  execArgv,
  execPath,
  exit,
  kill,
  on,
  once,
  off,
  emit,
  pid,
  platform,
  ppid,
  release,
  stderr,
  stdout,
  title,
  umask,
  uptime,
  version,
  versions,
} = process;
export { emitWarning, hrtime, memoryUsage, nextTick };
