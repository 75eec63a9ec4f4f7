// Entry point of the host realm: runs once, when the startup snapshot is made, and leaves one function
// behind that the runtime calls at the start of each run.

import { core, internals } from "ext:core/mod.js";
import {
  op_host_ready,
  op_host_stderr_no_color,
  op_host_stdout_no_color,
  op_host_versions,
  op_set_format_exception_callback,
} from "ext:core/ops";
import { Deno, version } from "ext:stockade_host/deno.js";
import { Isolate } from "ext:stockade_host/isolate.js";
import { receive, V8Sandbox } from "ext:stockade_host/sandbox.js";
import {
  defineWebGlobals,
  dispatchBeforeUnload,
  dispatchLoad,
  dispatchRejectionHandled,
  dispatchUnhandledRejection,
  dispatchUnload,
  startWebGlobals,
} from "ext:stockade_host/web.js";

const {
  getConsoleInspectOptions,
  getDefaultInspectOptions,
  getStderrNoColor,
  inspectArgs,
  quoteString,
  setNoColorFns,
} = core.loadExtScript("ext:deno_web/01_console.js");

defineWebGlobals();
Object.defineProperty(globalThis, "V8Sandbox", core.propNonEnumerable(V8Sandbox));
Object.defineProperty(globalThis, "Isolate", core.propNonEnumerable(Isolate));
core.setUnhandledPromiseRejectionHandler(dispatchUnhandledRejection);
core.setHandledPromiseRejectionHandler(dispatchRejectionHandled);
setNoColorFns(() => op_host_stdout_no_color(), () => op_host_stderr_no_color());

// How Deno's own scripts speak to the user: where a server listens, and what its handlers threw.
internals.log = (level, ...args) => {
  if (level === "debug" || level === "trace") return;
  core.print(`${inspectArgs(args, getConsoleInspectOptions(getStderrNoColor()))}\n`, true);
};

// Not standard, and gone from browsers.
delete Intl.v8BreakIterator;

// The text of a thrown value that is not an Error in a report; null leaves it to the engine.
function formatException(thrown) {
  if (thrown instanceof Error || core.isNativeError(thrown)) return null;
  const colors = !getStderrNoColor();
  const shown = typeof thrown === "string"
    ? quoteString(thrown, getDefaultInspectOptions())
    : thrown;
  return `Uncaught ${inspectArgs([shown], { colors })}`;
}

// The main module has come to its end. What it threw is reported before any timer fires and before the event `load`.
function loaded() {
  core.processTicksAndRejections();
  dispatchLoad();
}

function start() {
  delete globalThis.__startHost;
  delete globalThis.__bootstrap;
  startWebGlobals();
  core.wrapConsole(globalThis.console, core.v8Console);
  op_set_format_exception_callback(formatException);
  const versions = op_host_versions();
  Object.assign(version, versions.version);
  core.setBuildInfo(versions.target);
  Object.defineProperty(globalThis, "Deno", core.propReadOnly(Deno));
  op_host_ready(loaded, dispatchBeforeUnload, dispatchUnload, receive);
}

globalThis.__startHost = start;
