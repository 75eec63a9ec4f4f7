// `createRequire`: what bundles of CommonJS packages find Node's modules with.
import * as assert_ from "node:assert";
import * as assert_strict_ from "node:assert/strict";
import * as async_hooks_ from "node:async_hooks";
import * as buffer_ from "node:buffer";
import * as child_process_ from "node:child_process";
import * as console_ from "node:console";
import * as constants_ from "node:constants";
import * as crypto_ from "node:crypto";
import * as dgram_ from "node:dgram";
import * as diagnostics_channel_ from "node:diagnostics_channel";
import * as dns_ from "node:dns";
import * as dns_promises_ from "node:dns/promises";
import * as events_ from "node:events";
import * as fs_ from "node:fs";
import * as fs_promises_ from "node:fs/promises";
import * as http_ from "node:http";
import * as https_ from "node:https";
import * as net_ from "node:net";
import * as os_ from "node:os";
import * as path_ from "node:path";
import * as path_posix_ from "node:path/posix";
import * as perf_hooks_ from "node:perf_hooks";
import * as process_ from "node:process";
import * as querystring_ from "node:querystring";
import * as stream_ from "node:stream";
import * as stream_promises_ from "node:stream/promises";
import * as stream_web_ from "node:stream/web";
import * as string_decoder_ from "node:string_decoder";
import * as timers_ from "node:timers";
import * as timers_promises_ from "node:timers/promises";
import * as tls_ from "node:tls";
import * as tty_ from "node:tty";
import * as url_ from "node:url";
import * as util_ from "node:util";
import * as util_types_ from "node:util/types";
import * as worker_threads_ from "node:worker_threads";
import * as zlib_ from "node:zlib";
import { coded } from "internal:errors";

const loaded = {
  assert: assert_,
  "assert/strict": assert_strict_,
  async_hooks: async_hooks_,
  buffer: buffer_,
  child_process: child_process_,
  console: console_,
  constants: constants_,
  crypto: crypto_,
  dgram: dgram_,
  diagnostics_channel: diagnostics_channel_,
  dns: dns_,
  "dns/promises": dns_promises_,
  events: events_,
  fs: fs_,
  "fs/promises": fs_promises_,
  http: http_,
  https: https_,
  net: net_,
  os: os_,
  path: path_,
  "path/posix": path_posix_,
  perf_hooks: perf_hooks_,
  process: process_,
  querystring: querystring_,
  stream: stream_,
  "stream/promises": stream_promises_,
  "stream/web": stream_web_,
  string_decoder: string_decoder_,
  timers: timers_,
  "timers/promises": timers_promises_,
  tls: tls_,
  tty: tty_,
  url: url_,
  util: util_,
  "util/types": util_types_,
  worker_threads: worker_threads_,
  zlib: zlib_,
};

function load(specifier) {
  const name = String(specifier).replace(/^node:/, "").replace(/\/$/, "");
  if (name === "module") return module;
  const found = Object.hasOwn(loaded, name) ? loaded[name] : undefined;
  if (found === undefined) {
    throw coded(Error, "MODULE_NOT_FOUND", `Cannot find module '${specifier}': a guest requires Node's modules alone`);
  }
  return found.default ?? found;
}

export const builtinModules = Object.keys(loaded);
export const isBuiltin = (specifier) => Object.hasOwn(loaded, String(specifier).replace(/^node:/, ""));

export function createRequire() {
  const require = (specifier) => load(specifier);
  require.resolve = (specifier) => specifier;
  require.cache = {};
  return require;
}

const module = { builtinModules, createRequire, isBuiltin };
export default module;
