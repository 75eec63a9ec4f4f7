// The guest's `console`: silent, or lines of text to the host in Node's format.

(function () {
const { core, primordials } = __bootstrap;
const { op_guest_console, op_guest_console_call, op_guest_console_piece } = core.ops;
const {
  ArrayIsArray,
  ArrayPrototypePush,
  ErrorCaptureStackTrace,
  FunctionPrototypeBind,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeHas,
  MapPrototypeSet,
  MathFloor,
  MathMin,
  Number,
  NumberPrototypeToFixed,
  ObjectDefineProperty,
  ReflectApply,
  ReflectOwnKeys,
  SafeArrayIterator,
  SafeMap,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeEndsWith,
  StringPrototypeIncludes,
  StringPrototypePadStart,
  StringPrototypeRepeat,
  StringPrototypeReplaceAll,
  StringPrototypeSlice,
  SymbolToStringTag,
  TypeError,
} = primordials;
const { Console, setNoColorFns } = core.loadExtScript("ext:deno_web/01_console.js");
const { performance } = core.loadExtScript("ext:deno_web/15_performance.js");
const { format, formatStart, inspect, table } = core.loadExtScript("ext:stockade_realm/console_format.js");

// Lines are text: control sequences would be shown, not obeyed.
setNoColorFns(() => true, () => true);

// Far more than a line may hold: what lies beyond is not worth copying out of the heap. Where nothing is
// cut, this much is copied at a time.
const MAX_CHARS = 64 * 1024;

// Both are made for the startup snapshot, so that no guest waits for one.

const quiet = { __proto__: {} };
const model = new Console(() => {});
const keys = ReflectOwnKeys(model);
for (let i = 0; i < keys.length; i++) {
  const key = keys[i];
  if (typeof key === "string" && typeof model[key] === "function") quiet[key] = () => {};
}
ObjectDefineProperty(quiet, SymbolToStringTag, {
  __proto__: null,
  value: "console",
  configurable: true,
});

function silent() {
  return quiet;
}

let whole = false;
const write = (text, level) => whole ? printWhole(text, level) : print(text, level);
const captured = new Console(write);

// Levels of lines.
const DEBUG = 0;
const INFO = 1;
const WARN = 2;
const ERROR = 3;

// Groups in groups whose lines are indented further.
const MOST_INDENT = 100;

let groups = 0;
const counts = new SafeMap();
const timers = new SafeMap();

// What a call has put, while something asks for it.
let asked = false;
let said;

// One call is one line to the host, however many lines its text has.
function put(level, text) {
  if (asked) said = text;
  if (groups > 0) {
    const indent = StringPrototypeRepeat("  ", MathMin(groups, MOST_INDENT));
    text = indent + StringPrototypeReplaceAll(text, "\n", `\n${indent}`);
  }
  write(`${text}\n`, level);
}

const printer = (level) => (...args) => put(level, args.length === 0 ? "" : format(args));

function timed(label, found, rest) {
  const started = MapPrototypeGet(timers, label);
  if (started === undefined) {
    put(WARN, `No such label '${label}' for console.${found}()`);
    return;
  }
  const args = [`${label}: ${durationText(performance.now() - started)}`];
  for (let i = 0; i < rest.length; i++) ArrayPrototypePush(args, rest[i]);
  // A label is text, whatever it holds.
  put(INFO, args.length === 1 ? args[0] : format(["%s", ...new SafeArrayIterator(args)]));
}

const twoDigits = (number) => StringPrototypePadStart(`${number}`, 2, "0");

// Milliseconds as Node writes them.
function durationText(ms) {
  if (ms < 1000) {
    const text = NumberPrototypeToFixed(ms, 3);
    return `${Number(text)}ms`;
  }
  if (ms < 60_000) return `${NumberPrototypeToFixed(ms / 1000, 3)}s`;
  const minutes = MathFloor(ms / 60_000);
  const seconds = StringPrototypePadStart(NumberPrototypeToFixed((ms - minutes * 60_000) / 1000, ms < 3_600_000 ? 3 : 0), ms < 3_600_000 ? 6 : 2, "0");
  if (ms < 3_600_000) return `${minutes}:${seconds} (m:ss.mmm)`;
  return `${MathFloor(minutes / 60)}:${twoDigits(minutes % 60)}:${seconds} (h:mm:ss)`;
}

const group = (...label) => {
  if (label.length > 0) put(INFO, format(label));
  groups++;
};
const methods = {
  __proto__: null,
  debug: printer(DEBUG),
  info: printer(INFO),
  log: printer(INFO),
  dirxml: printer(INFO),
  warn: printer(WARN),
  error: printer(ERROR),
  dir: (value, options = undefined) => put(INFO, inspect(value, { __proto__: null, customInspect: false, ...options })),
  assert: (condition = false, ...args) => {
    if (condition) return;
    const rest = [...new SafeArrayIterator(args)];
    rest[0] = `Assertion failed${rest.length === 0 ? "" : `: ${rest[0]}`}`;
    put(ERROR, format(rest));
  },
  count: (label = "default") => {
    label = `${label}`;
    const count = (MapPrototypeGet(counts, label) ?? 0) + 1;
    MapPrototypeSet(counts, label, count);
    put(INFO, `${label}: ${count}`);
  },
  countReset: (label = "default") => {
    label = `${label}`;
    if (!MapPrototypeDelete(counts, label)) put(WARN, `Count for '${label}' does not exist`);
  },
  time: (label = "default") => {
    label = `${label}`;
    if (MapPrototypeHas(timers, label)) put(WARN, `Label '${label}' already exists for console.time()`);
    else MapPrototypeSet(timers, label, performance.now());
  },
  timeLog: (label = "default", ...rest) => timed(`${label}`, "timeLog", rest),
  timeEnd: (label = "default") => {
    label = `${label}`;
    timed(label, "timeEnd", []);
    MapPrototypeDelete(timers, label);
  },
  group,
  groupCollapsed: group,
  groupEnd: () => {
    if (groups > 0) groups--;
  },
  table: (data = undefined, properties = undefined) => {
    if (data === null || typeof data !== "object") return put(INFO, format([data]));
    if (properties !== undefined && !ArrayIsArray(properties)) {
      throw new TypeError("the properties of a table must be an array of names");
    }
    put(INFO, table(data, properties));
  },
  trace: (...args) => {
    const trace = { __proto__: null, name: "Trace", message: args.length === 0 ? "" : format(args) };
    ErrorCaptureStackTrace(trace, outermostTrace);
    put(ERROR, `${trace.stack}`);
  },
};
// What the guest's call of `trace` enters first: the stack begins above it.
let outermostTrace = methods.trace;

const names = ReflectOwnKeys(methods);
for (let i = 0; i < names.length; i++) captured[names[i]] = methods[names[i]];

function capturing(isWhole) {
  whole = isWhole;
  return captured;
}

// ---- For a debugger ----

// Arguments of one call that a debugger is shown.
const MOST_SHOWN = 100;

// The same arguments with everything done that runs code of the guest, such as a `toString` for `%s`: the host and the
// debugger each read them, and that code is to run once.
function settled(args) {
  const first = args[0];
  if (args.length < 2 || typeof first !== "string" || !StringPrototypeIncludes(first, "%")) return args;
  const { text, used } = formatStart(args);
  const all = ["%s", text];
  for (let i = used; i < args.length; i++) ArrayPrototypePush(all, args[i]);
  return all;
}

// As much of the arguments as a debugger is sent.
function shown(args) {
  const most = MathMin(args.length, MOST_SHOWN);
  const all = [];
  let left = MAX_CHARS;
  for (let i = 0; i < most; i++) {
    let value = args[i];
    if (typeof value === "string") {
      const { length } = value;
      if (length > left) value = `${StringPrototypeSlice(value, 0, left)}\u{2026} [cut: ${length} characters]`;
      left -= MathMin(left, length);
    }
    ArrayPrototypePush(all, value);
  }
  if (args.length > most) ArrayPrototypePush(all, `\u{2026} [cut: ${args.length} arguments]`);
  return all;
}

// What each method does where debuggers are let in, besides which of the engine's methods gets the array that it gives.
// The engine's own counts and timers are not used: their labels are kept outside of the guest's heap.
function forDebugger(method) {
  const asItIs = (name) => (...args) => {
    ReflectApply(method(name), undefined, args);
    return shown(args);
  };
  const printing = (name) => (...args) => {
    args = settled(args);
    ReflectApply(method(name), undefined, args);
    return shown(args);
  };
  const saying = (name) => (...args) => {
    asked = true;
    try {
      ReflectApply(method(name), undefined, args);
      return said === undefined ? undefined : shown([said]);
    } finally {
      asked = false;
      said = undefined;
    }
  };
  const assert = (condition = false, ...args) => {
    if (condition) return undefined;
    args = [false, ...new SafeArrayIterator(settled(args))];
    ReflectApply(method("assert"), undefined, args);
    return shown(args);
  };
  return {
    __proto__: null,
    assert: [assert, "assert"],
    clear: [asItIs("clear"), "clear"],
    count: [saying("count"), "info"],
    countReset: [saying("countReset"), "warn"],
    debug: [printing("debug"), "debug"],
    dir: [asItIs("dir"), "dir"],
    dirxml: [printing("dirxml"), "dirxml"],
    error: [printing("error"), "error"],
    group: [printing("group"), "group"],
    groupCollapsed: [printing("groupCollapsed"), "groupCollapsed"],
    groupEnd: [asItIs("groupEnd"), "groupEnd"],
    info: [printing("info"), "info"],
    log: [printing("log"), "log"],
    table: [asItIs("table"), "table"],
    time: [saying("time"), "warn"],
    timeEnd: [saying("timeEnd"), "info"],
    timeLog: [saying("timeLog"), "info"],
    trace: [printing("trace"), "trace"],
    warn: [printing("warn"), "warn"],
  };
}

// Lets the engine's console have each call, too, while a debugger is there. The guest gets no function of the engine's:
// what it calls is an op that is bound to both.
function debugged() {
  const engine = core.v8Console;
  const before = { __proto__: null };
  const table = forDebugger((name) => before[name]);
  const names = ReflectOwnKeys(table);
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    const { 0: own, 1: to } = table[name];
    before[name] = captured[name];
    captured[name] = FunctionPrototypeBind(op_guest_console_call, undefined, own, engine[to]);
    ObjectDefineProperty(captured[name], "name", { __proto__: null, value: name, configurable: true });
  }
  outermostTrace = table.trace[0];
}

function print(text, level) {
  text = String(text);
  op_guest_console(level, StringPrototypeSlice(text, 0, MAX_CHARS), text.length);
}

function printWhole(text, level) {
  text = String(text);
  if (!StringPrototypeEndsWith(text, "\n")) text += "\n";
  for (let start = 0; start < text.length;) {
    let end = start + MAX_CHARS;
    // The halves of a surrogate pair stay together.
    if (end < text.length && (StringPrototypeCharCodeAt(text, end - 1) & 0xfc00) === 0xd800) end++;
    op_guest_console_piece(level, StringPrototypeSlice(text, start, end));
    start = end;
  }
}

return { capturing, debugged, silent };
})();
