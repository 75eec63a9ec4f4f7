// Data of messages: to JSON text with bytes and streams taken out, and back.
//
// The format is described once, on `stockade_protocol::Payload`. Both realms load this file.
// Nothing here reads a global or a prototype that a guest can change: only primordials.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_payload_add_bytes,
  op_payload_clear,
  op_payload_part_length,
  op_payload_take_bytes,
} = core.ops;
const {
  AggregateErrorPrototype,
  ArrayBufferIsView,
  ArrayBufferPrototype,
  ArrayIsArray,
  ArrayPrototypePush,
  BigInt,
  BigIntPrototypeToString,
  Date,
  DatePrototypeGetTime,
  Error,
  ErrorPrototype,
  EvalErrorPrototype,
  JSONStringify,
  Map,
  MapPrototypeForEach,
  MapPrototypeSet,
  Number,
  NumberIsFinite,
  ObjectDefineProperty,
  ObjectGetPrototypeOf,
  ObjectHasOwn,
  ObjectKeys,
  ObjectPrototype,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  RangeError,
  RangeErrorPrototype,
  ReferenceErrorPrototype,
  ReflectApply,
  SafeSet,
  Set,
  SetPrototypeAdd,
  SetPrototypeDelete,
  SetPrototypeForEach,
  SetPrototypeHas,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeSlice,
  SyntaxErrorPrototype,
  TypeError,
  TypeErrorPrototype,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetSymbolToStringTag,
  Uint8Array,
  URIErrorPrototype,
} = primordials;

// How deep `holdsBinary` and `isPlain` look before they leave the matter to the slow way.
const MAX_DEPTH = 64;

// How deep data of a call between sites may be nested, and how many hexadecimal digits a BigInt may have: less
// than `stockade_protocol::marks` lets pass.
const MAX_EXACT_DEPTH = 500;
const MAX_BIG_INT_DIGITS = 1024;

function kindOf(value) {
  if (ArrayBufferIsView(value)) {
    return TypedArrayPrototypeGetSymbolToStringTag(value) === "Uint8Array" ? "b" : "";
  }
  if (ObjectPrototypeIsPrototypeOf(ArrayBufferPrototype, value)) return "a";
  if (isStream !== undefined && isStream(value)) return "s";
  return "";
}

// Set by `connectTargets`: functions and objects that are passed by reference, in calls between sites.
let targets;

function connectTargets(those) {
  targets = those;
}

// Set by `connectStreams`: recognises streams and gives one an id for the other side, or takes it back.
let isStream;
let exportStream;
let withdrawStream;
let importStream;

function connectStreams(streams) {
  isStream = streams.isStream;
  exportStream = streams.exportStream;
  withdrawStream = streams.withdraw;
  importStream = streams.importStream;
}

function holdsBinary(value, depth) {
  if (typeof value !== "object" || value === null) return false;
  if (depth > MAX_DEPTH || kindOf(value) !== "") return true;
  if (ArrayIsArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item = value[i];
      if (typeof item === "object" && item !== null && holdsBinary(item, depth + 1)) return true;
    }
    return false;
  }
  const keys = ObjectKeys(value);
  for (let i = 0; i < keys.length; i++) {
    const item = value[keys[i]];
    if (typeof item === "object" && item !== null && holdsBinary(item, depth + 1)) return true;
  }
  return false;
}

// Gives the JSON text, `undefined` for undefined. Bytes wait in the op state for the op that sends
// the text; `marked()` returns to that op's caller whether there are marks.
//
// The sender's getters and `toJSON` run meanwhile, and may send something themselves. So what the op gets is
// set last, once none of the sender's code can run any more.
let lastMarked = false;
let lastHandedOut; // ids of the streams and targets that were taken out, if any

function encode(value) {
  if (typeof value !== "object" || value === null || !holdsBinary(value, 0)) {
    const json = JSONStringify(value);
    lastMarked = false;
    lastHandedOut = undefined;
    return json;
  }
  return encodeMarked(value);
}

// What is taken out of data on its way: bytes, and ids of streams.
function nothingTaken() {
  return { __proto__: null, parts: emptyList(), streams: emptyList(), targets: emptyList() };
}

function addTarget(taken, target) {
  const id = targets.lend(target);
  ArrayPrototypePush(taken.targets, id);
  return id;
}

function addBytes(taken, bytes) {
  return ArrayPrototypePush(taken.parts, bytes) - 1;
}

function addStream(taken, stream) {
  const id = exportStream(stream);
  ArrayPrototypePush(taken.streams, id);
  return id;
}

function handOver({ parts, streams, targets: lent }) {
  lastHandedOut = streams.length > 0 || lent.length > 0 ? { __proto__: null, streams, targets: lent } : undefined;
  op_payload_clear();
  for (let i = 0; i < parts.length; i++) op_payload_add_bytes(parts[i]);
}

// The data is not sent.
function giveUp({ streams, targets: lent }) {
  op_payload_clear();
  takeBack({ __proto__: null, streams, targets: lent });
}

// Streams and targets of data that was encoded and not taken by an op are their owner's again.
function takeBack(handedOut) {
  if (handedOut === undefined) return;
  const { streams, targets: lent } = handedOut;
  for (let i = 0; i < streams.length; i++) withdrawStream(streams[i]);
  for (let i = 0; i < lent.length; i++) targets.withdraw(lent[i]);
}

// Ids of the streams and targets in the data that was encoded last, for `takeBack`.
function handedOut() {
  return lastHandedOut;
}

function encodeMarked(value) {
  const taken = nothingTaken();
  let found = false;
  let escaped = false;
  const replace = (_key, item) => {
    if (typeof item === "string") {
      if (item.length > 0 && StringPrototypeCharCodeAt(item, 0) === 0) {
        escaped = true;
        return "\0" + item;
      }
      return item;
    }
    if (typeof item !== "object" || item === null) return item;
    switch (kindOf(item)) {
      case "b":
        found = true;
        return "\0b" + addBytes(taken, item);
      case "a":
        found = true;
        return "\0a" + addBytes(taken, new Uint8Array(item));
      case "s":
        found = true;
        return "\0s" + addStream(taken, item);
      default:
        return item;
    }
  };
  try {
    const json = JSONStringify(value, replace);
    handOver(taken);
    lastMarked = found || escaped;
    return json;
  } catch (error) {
    giveUp(taken);
    throw error;
  }
}

function marked() {
  return lastMarked;
}

// ---- Values of calls between sites ----
//
// They arrive as what they were, or the sender throws: nothing becomes `null` or `{}` on the way.

// Whether this realm takes part in such calls: those of the host's scripts are JSON.
let exact = false;

function carryExactly() {
  exact = true;
}

// A value of a guest that a call gives or takes.
function encodeValue(value) {
  return exact ? encodeExact(value) : encode(value);
}

function encodeExact(value) {
  if (value === undefined || isPlain(value, 0)) {
    const json = value === undefined ? undefined : JSONStringify(value);
    lastMarked = false;
    lastHandedOut = undefined;
    return json;
  }
  const taken = nothingTaken();
  try {
    const json = JSONStringify(toTree(value, new SafeSet(), 0, taken));
    handOver(taken);
    lastMarked = true;
    return json;
  } catch (error) {
    giveUp(taken);
    throw error;
  }
}

// Whether JSON holds the value just so.
function isPlain(value, depth) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return NumberIsFinite(value) && !isMinusZero(value);
    case "object":
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth > MAX_DEPTH || value.toJSON !== undefined) return false;
  if (ArrayIsArray(value)) {
    for (let i = 0; i < value.length; i++) {
      if (!isPlain(value[i], depth + 1)) return false;
    }
    return true;
  }
  const prototype = ObjectGetPrototypeOf(value);
  if (prototype !== ObjectPrototype && prototype !== null) return false;
  const keys = ObjectKeys(value);
  for (let i = 0; i < keys.length; i++) {
    if (!isPlain(value[keys[i]], depth + 1)) return false;
  }
  return true;
}

function isMinusZero(value) {
  return value === 0 && 1 / value < 0;
}

// The value with marks, of objects and lists that inherit nothing.
function toTree(value, within, depth, taken) {
  switch (typeof value) {
    case "string":
      return escapeText(value);
    case "boolean":
      return value;
    case "number":
      if (isMinusZero(value)) return "\0f-0";
      return NumberIsFinite(value) ? value : "\0f" + String(value);
    case "undefined":
      return "\0u";
    case "bigint": {
      const digits = BigIntPrototypeToString(value, 16);
      if (digits.length > MAX_BIG_INT_DIGITS) {
        throw new RangeError(
          `a BigInt of more than ${MAX_BIG_INT_DIGITS} hexadecimal digits cannot be passed`,
        );
      }
      return "\0i" + digits;
    }
    case "object":
    case "function":
      break;
    default:
      throw notPassed(`a ${typeof value}`);
  }
  if (value === null) return null;
  if (targets !== undefined && targets.isTarget(value)) return "\0r" + addTarget(taken, value);
  if (typeof value === "function") throw notPassed("a function");
  switch (kindOf(value)) {
    case "b":
      return "\0b" + addBytes(taken, value);
    case "a":
      return "\0a" + addBytes(taken, new Uint8Array(value));
    case "s":
      return "\0s" + addStream(taken, value);
  }
  if (depth >= MAX_EXACT_DEPTH) {
    throw new RangeError(`data is nested more than ${MAX_EXACT_DEPTH} values deep: make it flatter`);
  }
  if (SetPrototypeHas(within, value)) throw notPassed("an object that contains itself");
  SetPrototypeAdd(within, value);
  const tree = objectToTree(value, (item) => toTree(item, within, depth + 1, taken));
  SetPrototypeDelete(within, value);
  return tree;
}

function objectToTree(value, convert) {
  if (ArrayIsArray(value)) {
    const list = emptyList();
    for (let i = 0; i < value.length; i++) ArrayPrototypePush(list, convert(value[i]));
    return list;
  }
  if (core.isDate(value)) return "\0d" + String(DatePrototypeGetTime(value));
  if (core.isMap(value)) {
    const list = emptyList("\0M");
    MapPrototypeForEach(value, (item, key) => {
      ArrayPrototypePush(list, convert(key), convert(item));
    });
    return list;
  }
  if (core.isSet(value)) {
    const list = emptyList("\0S");
    SetPrototypeForEach(value, (item) => {
      ArrayPrototypePush(list, convert(item));
    });
    return list;
  }
  if (ObjectPrototypeIsPrototypeOf(ErrorPrototype, value)) return errorToTree(value, convert);
  const { toJSON } = value;
  if (typeof toJSON === "function") return convert(ReflectApply(toJSON, value, [""]));
  const prototype = ObjectGetPrototypeOf(value);
  if (prototype !== ObjectPrototype && prototype !== null) throw notPassed(`a ${className(value)}`);
  const tree = { __proto__: null };
  const keys = ObjectKeys(value);
  for (let i = 0; i < keys.length; i++) tree[keys[i]] = convert(value[keys[i]]);
  return tree;
}

function errorToTree(error, convert) {
  const { name, message } = error;
  const more = { __proto__: null };
  const keys = ObjectKeys(error);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    if (key !== "name" && key !== "message" && key !== "stack") more[key] = convert(error[key]);
  }
  if (ObjectHasOwn(error, "cause")) more.cause = convert(error.cause);
  if (ObjectHasOwn(error, "errors")) more.errors = convert(error.errors);
  return emptyList(
    "\0E",
    typeof name === "string" ? escapeText(name) : "Error",
    typeof message === "string" ? escapeText(message) : "",
    more,
  );
}

// `JSON.stringify` finds no `toJSON` on it, whatever a guest has put on arrays.
function emptyList(...items) {
  return ObjectSetPrototypeOf(items, null);
}

// A mark as a string of JSON, for a message that is put together as text.
function markJson(letter, number) {
  return `"\\u0000${letter}${number}"`;
}

function escapeText(text) {
  return text.length > 0 && StringPrototypeCharCodeAt(text, 0) === 0 ? "\0" + text : text;
}

function className(value) {
  if (ArrayBufferIsView(value)) return TypedArrayPrototypeGetSymbolToStringTag(value) ?? "DataView";
  const name = value.constructor?.name;
  return typeof name === "string" && name !== "" ? `${name} object` : "class instance";
}

function notPassed(what) {
  return new TypeError(
    `${what} cannot be passed to another site: plain objects, arrays, Map, Set, Date, Error, bytes as ` +
      "Uint8Array or ArrayBuffer, byte streams, functions, objects of classes that extend RpcTarget and primitive values can",
  );
}

const ERRORS = {
  __proto__: null,
  AggregateError: AggregateErrorPrototype,
  EvalError: EvalErrorPrototype,
  RangeError: RangeErrorPrototype,
  ReferenceError: ReferenceErrorPrototype,
  SyntaxError: SyntaxErrorPrototype,
  TypeError: TypeErrorPrototype,
  URIError: URIErrorPrototype,
};

// What a list whose first item is a mark stands for; `undefined` for any other list.
function reviveList(list) {
  switch (list.length === 0 ? undefined : list[0]) {
    case "\0M": {
      const map = new Map();
      for (let i = 1; i + 1 < list.length; i += 2) {
        MapPrototypeSet(map, revive(list[i]), revive(list[i + 1]));
      }
      return map;
    }
    case "\0S": {
      const set = new Set();
      for (let i = 1; i < list.length; i++) SetPrototypeAdd(set, revive(list[i]));
      return set;
    }
    case "\0E":
      return reviveError(revive(list[1]), revive(list[2]), revive(list[3]));
    default:
      return undefined;
  }
}

function reviveError(name, message, more) {
  const text = typeof message === "string" ? message : "";
  const error = new Error(text);
  const define = (key, value, enumerable) =>
    ObjectDefineProperty(error, key, {
      __proto__: null,
      value,
      configurable: true,
      enumerable,
      writable: true,
    });
  if (typeof name === "string" && name !== "Error") {
    if (ERRORS[name] !== undefined) ObjectSetPrototypeOf(error, ERRORS[name]);
    else define("name", name, false);
  }
  // Where it was made is not here.
  define("stack", `${typeof name === "string" ? name : "Error"}: ${text}`, false);
  if (typeof more === "object" && more !== null) {
    const keys = ObjectKeys(more);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      define(key, more[key], key !== "cause" && key !== "errors");
    }
  }
  return error;
}

// Puts bytes and streams back into data that was parsed from marked JSON text. The data comes
// straight from the parser: plain objects and arrays of own properties, no getters, as deep as its sender
// likes.
function revive(value) {
  if (typeof value === "string") return reviveString(value);
  if (typeof value !== "object" || value === null) return value;
  if (exact && ArrayIsArray(value)) {
    const made = reviveList(value);
    if (made !== undefined) return made;
  }
  const open = { __proto__: null, 0: value }; // what is still to be looked through
  let count = 1;
  while (count > 0) {
    const holder = open[--count];
    const keys = ArrayIsArray(holder) ? undefined : ObjectKeys(holder);
    const length = keys === undefined ? holder.length : keys.length;
    for (let i = 0; i < length; i++) {
      const key = keys === undefined ? i : keys[i];
      const item = holder[key];
      if (typeof item === "string") {
        if (item.length > 0 && StringPrototypeCharCodeAt(item, 0) === 0) {
          holder[key] = reviveString(item);
        }
      } else if (typeof item === "object" && item !== null) {
        const made = exact && ArrayIsArray(item) ? reviveList(item) : undefined;
        if (made === undefined) open[count++] = item;
        else holder[key] = made;
      }
    }
  }
  return value;
}

function takeBytes(index) {
  const length = op_payload_part_length(index);
  const bytes = new Uint8Array(length);
  if (length > 0) op_payload_take_bytes(index, bytes);
  return bytes;
}

function reviveString(text) {
  if (text.length < 2 || StringPrototypeCharCodeAt(text, 0) !== 0) return text;
  const kind = text[1];
  if (kind === "\0") return StringPrototypeSlice(text, 1);
  if (exact) {
    const content = StringPrototypeSlice(text, 2);
    switch (kind) {
      case "u":
        return undefined;
      case "f":
        return Number(content);
      case "d":
        return new Date(Number(content));
      case "r":
        return targets === undefined ? null : targets.hold(Number(content));
      case "i":
        return StringPrototypeCharCodeAt(content, 0) === 45
          ? -BigInt("0x" + StringPrototypeSlice(content, 1))
          : BigInt("0x" + content);
    }
  }
  const index = Number(StringPrototypeSlice(text, 2));
  switch (kind) {
    case "b":
      return takeBytes(index);
    case "a":
      return TypedArrayPrototypeGetBuffer(takeBytes(index));
    case "s":
      return importStream === undefined ? null : importStream(index);
    default:
      return null;
  }
}

return {
  carryExactly,
  connectStreams,
  connectTargets,
  encode,
  encodeExact,
  encodeValue,
  handedOut,
  marked,
  markJson,
  revive,
  takeBack,
};
})();
