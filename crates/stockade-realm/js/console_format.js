// Values as lines of text, in Node's format: `util.formatWithOptions` and the tables of `console.table`.
// https://nodejs.org/docs/latest-v20.x/api/util.html#utilformatformat-args
//
// What a guest's getters and methods do on the way is the guest's own work, within its limits.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayIsArray,
  ArrayPrototypeJoin,
  ArrayPrototypePush,
  ErrorPrototype,
  JSONStringify,
  MapPrototypeForEach,
  MapPrototypeGetSize,
  MathMax,
  Number,
  NumberParseFloat,
  NumberParseInt,
  ObjectGetOwnPropertyDescriptor,
  ObjectGetPrototypeOf,
  ObjectHasOwn,
  ObjectIs,
  ObjectKeys,
  ObjectPrototypeIsPrototypeOf,
  SafeSet,
  SetPrototypeForEach,
  SetPrototypeGetSize,
  SetPrototypeHas,
  String,
  StringPrototypeIncludes,
  StringPrototypeRepeat,
  StringPrototypeSlice,
} = primordials;
const { getStringWidth, inspect: inspectAsDeno } = core.loadExtScript("ext:deno_web/01_console.js");

const QUOTES = ["'", '"', "`"];

function inspect(value, options = undefined) {
  return inspectAsDeno(value, {
    __proto__: null,
    depth: 2,
    ...options,
    colors: false,
    quotes: QUOTES,
  });
}

function numberText(value) {
  return ObjectIs(value, -0) ? "-0" : `${value}`;
}

// The classes whose `toString` says nothing about a value.
const BUILT_IN = new SafeSet([
  "AggregateError",
  "Array",
  "ArrayBuffer",
  "BigInt64Array",
  "BigUint64Array",
  "Boolean",
  "DataView",
  "Date",
  "Error",
  "EvalError",
  "Float32Array",
  "Float64Array",
  "Function",
  "Int16Array",
  "Int32Array",
  "Int8Array",
  "Map",
  "Number",
  "Object",
  "Promise",
  "Proxy",
  "RangeError",
  "ReferenceError",
  "RegExp",
  "Set",
  "SharedArrayBuffer",
  "String",
  "Symbol",
  "SyntaxError",
  "TypeError",
  "URIError",
  "Uint16Array",
  "Uint32Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "WeakMap",
  "WeakRef",
  "WeakSet",
]);

function hasBuiltInToString(value) {
  const proxied = core.getProxyDetails(value);
  if (proxied !== null && proxied !== undefined) {
    value = proxied[0];
    if (value === null) return true;
  }
  if (typeof value.toString !== "function") return true;
  if (ObjectHasOwn(value, "toString")) return false;
  let pointer = value;
  do {
    pointer = ObjectGetPrototypeOf(pointer);
    if (pointer === null) return true;
  } while (!ObjectHasOwn(pointer, "toString"));
  const descriptor = ObjectGetOwnPropertyDescriptor(pointer, "constructor");
  return descriptor !== undefined && typeof descriptor.value === "function" &&
    SetPrototypeHas(BUILT_IN, descriptor.value.name);
}

function asText(value) {
  if (typeof value === "number") return numberText(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null || !hasBuiltInToString(value)) return String(value);
  return inspect(value, { __proto__: null, depth: 0 });
}

function asNumber(value, parse) {
  if (typeof value === "bigint") return parse === NumberParseFloat ? numberText(parse(value)) : `${value}n`;
  if (typeof value === "symbol") return "NaN";
  return numberText(parse(value));
}

function asJson(value) {
  try {
    const text = JSONStringify(value);
    return text === undefined ? "undefined" : text;
  } catch (error) {
    if (ObjectPrototypeIsPrototypeOf(ErrorPrototype, error) && StringPrototypeIncludes(`${error.message}`, "circular")) {
      return "[Circular]";
    }
    throw error;
  }
}

const SHOW_ALL = { __proto__: null, depth: 4, showHidden: true, showProxy: true };

// What a letter after `%` makes of a value; undefined for a letter that means nothing.
function formatted(letter, value) {
  switch (letter) {
    case "s":
      return asText(value);
    case "j":
      return asJson(value);
    case "d":
      return typeof value === "object" && value !== null ? numberText(Number(value)) : asNumber(value, Number);
    case "i":
      return asNumber(value, NumberParseInt);
    case "f":
      return asNumber(value, NumberParseFloat);
    case "o":
      return inspect(value, SHOW_ALL);
    case "O":
      return inspect(value);
    case "c":
      return "";
    default:
      return undefined;
  }
}

// The text of a format and of the arguments that it takes, and how many these are with the format itself.
function formatStart(args) {
  const first = args[0];
  let used = 0;
  let text = "";
  if (typeof first === "string") {
    used = 1;
    let last = 0;
    for (let i = 0; i < first.length - 1; i++) {
      if (first[i] !== "%") continue;
      i++;
      let made;
      if (first[i] === "%") made = "%";
      else if (used < args.length) {
        made = formatted(first[i], args[used]);
        if (made !== undefined) used++;
      }
      // A `%` before another letter is a `%`.
      if (made === undefined) continue;
      text += StringPrototypeSlice(first, last, i - 1) + made;
      last = i + 1;
    }
    text += StringPrototypeSlice(first, last);
  }
  return { __proto__: null, text, used };
}

// The arguments of `console.log` as one text.
function format(args) {
  const first = args[0];
  if (args.length === 1) return typeof first === "string" ? first : inspect(first);
  const start = formatStart(args);
  const { used } = start;
  let { text } = start;
  for (let i = used; i < args.length; i++) {
    if (i > 0) text += " ";
    text += typeof args[i] === "string" ? args[i] : inspect(args[i]);
  }
  return text;
}

// ---- Tables ----

const INDEX = "(index)";
const ITERATION = "(iteration index)";
const KEY = "Key";
const VALUES = "Values";

function cellOf(value) {
  const isWide = typeof value === "object" && value !== null && !ArrayIsArray(value) && ObjectKeys(value).length > 2;
  return inspect(value, { __proto__: null, depth: isWide ? -1 : 0, maxArrayLength: 3, breakLength: Infinity });
}

function draw(head, columns) {
  const widths = [];
  let height = 0;
  for (let i = 0; i < head.length; i++) {
    let width = getStringWidth(head[i]);
    const column = columns[i];
    for (let j = 0; j < column.length; j++) width = MathMax(width, getStringWidth(column[j] ?? ""));
    widths[i] = width;
    height = MathMax(height, column.length);
  }
  const line = (left, middle, right) => {
    const parts = [];
    for (let i = 0; i < widths.length; i++) ArrayPrototypePush(parts, StringPrototypeRepeat("\u{2500}", widths[i] + 2));
    return left + ArrayPrototypeJoin(parts, middle) + right;
  };
  const row = (cell) => {
    const parts = [];
    for (let i = 0; i < widths.length; i++) {
      const text = cell(i);
      ArrayPrototypePush(parts, text + StringPrototypeRepeat(" ", MathMax(0, widths[i] - getStringWidth(text))));
    }
    return `\u{2502} ${ArrayPrototypeJoin(parts, " \u{2502} ")} \u{2502}\n`;
  };
  let text = `${line("\u{250c}", "\u{252c}", "\u{2510}")}\n${row((i) => head[i])}${line("\u{251c}", "\u{253c}", "\u{2524}")}\n`;
  for (let j = 0; j < height; j++) text += row((i) => columns[i][j] ?? "");
  return text + line("\u{2514}", "\u{2534}", "\u{2518}");
}

function sizeOf(value, size) {
  try {
    return size(value);
  } catch {
    return undefined;
  }
}

function numbers(count) {
  const texts = [];
  for (let i = 0; i < count; i++) ArrayPrototypePush(texts, `${i}`);
  return texts;
}

// The text of a table of an object.
function table(data, properties) {
  const keys = [];
  const values = [];
  if (sizeOf(data, MapPrototypeGetSize) !== undefined) {
    MapPrototypeForEach(data, (value, key) => {
      ArrayPrototypePush(keys, cellOf(key));
      ArrayPrototypePush(values, cellOf(value));
    });
    return draw([ITERATION, KEY, VALUES], [numbers(keys.length), keys, values]);
  }
  if (sizeOf(data, SetPrototypeGetSize) !== undefined) {
    SetPrototypeForEach(data, (value) => ArrayPrototypePush(values, cellOf(value)));
    return draw([ITERATION, VALUES], [numbers(values.length), values]);
  }
  // Rows of objects have a column for each of their keys.
  const rows = ObjectKeys(data);
  const columns = { __proto__: null };
  let hasValues = false;
  for (let i = 0; i < rows.length; i++) {
    const item = data[rows[i]];
    if (item === null || (typeof item !== "function" && typeof item !== "object")) {
      hasValues = true;
      values[i] = cellOf(item);
      continue;
    }
    const names = properties ?? ObjectKeys(item);
    for (let j = 0; j < names.length; j++) {
      const name = names[j];
      columns[name] ??= [];
      columns[name][i] = ObjectHasOwn(item, name) ? cellOf(item[name]) : "";
    }
  }
  const head = [INDEX];
  const all = [rows];
  const names = ObjectKeys(columns);
  for (let i = 0; i < names.length; i++) {
    ArrayPrototypePush(head, names[i]);
    ArrayPrototypePush(all, columns[names[i]]);
  }
  if (hasValues) {
    ArrayPrototypePush(head, VALUES);
    ArrayPrototypePush(all, values);
  }
  return draw(head, all);
}

return { format, formatStart, inspect, table };
})();
