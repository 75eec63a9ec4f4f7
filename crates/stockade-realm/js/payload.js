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
  ArrayBufferIsView,
  ArrayBufferPrototype,
  ArrayIsArray,
  JSONStringify,
  Number,
  ObjectKeys,
  ObjectPrototypeIsPrototypeOf,
  StringPrototypeCharCodeAt,
  StringPrototypeSlice,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetSymbolToStringTag,
  Uint8Array,
} = primordials;

// How deep `holdsBinary` looks before it leaves the matter to the slow way.
const MAX_DEPTH = 64;

function kindOf(value) {
  if (ArrayBufferIsView(value)) {
    return TypedArrayPrototypeGetSymbolToStringTag(value) === "Uint8Array" ? "b" : "";
  }
  if (ObjectPrototypeIsPrototypeOf(ArrayBufferPrototype, value)) return "a";
  if (isStream !== undefined && isStream(value)) return "s";
  return "";
}

// Set by `connectStreams`: tells streams and gives one an id for the other side.
let isStream;
let exportStream;
let importStream;

function connectStreams(streams) {
  isStream = streams.isStream;
  exportStream = streams.exportStream;
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
// the text; `marked()` tells that op's caller whether there are marks.
let lastMarked = false;

function encode(value) {
  lastMarked = false;
  if (typeof value !== "object" || value === null || !holdsBinary(value, 0)) {
    return JSONStringify(value);
  }
  return encodeMarked(value);
}

function encodeMarked(value) {
  op_payload_clear();
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
        return "\0b" + op_payload_add_bytes(item);
      case "a":
        found = true;
        return "\0a" + op_payload_add_bytes(new Uint8Array(item));
      case "s":
        found = true;
        return "\0s" + exportStream(item);
      default:
        return item;
    }
  };
  try {
    const json = JSONStringify(value, replace);
    lastMarked = found || escaped;
    return json;
  } catch (error) {
    op_payload_clear();
    throw error;
  }
}

function marked() {
  return lastMarked;
}

// Puts bytes and streams back into data that was parsed from marked JSON text. The data comes
// straight from the parser: plain objects and arrays of own properties, no getters.
function revive(value) {
  if (typeof value === "string") return reviveString(value);
  if (typeof value !== "object" || value === null) return value;
  const keys = ObjectKeys(value);
  for (let i = 0; i < keys.length; i++) {
    const item = value[keys[i]];
    if (typeof item === "string") {
      if (item.length > 0 && StringPrototypeCharCodeAt(item, 0) === 0) {
        value[keys[i]] = reviveString(item);
      }
    } else if (typeof item === "object" && item !== null) {
      revive(item);
    }
  }
  return value;
}

function takeBytes(index) {
  const bytes = new Uint8Array(op_payload_part_length(index));
  op_payload_take_bytes(index, bytes);
  return bytes;
}

function reviveString(text) {
  if (text.length < 2 || StringPrototypeCharCodeAt(text, 0) !== 0) return text;
  const kind = text[1];
  if (kind === "\0") return StringPrototypeSlice(text, 1);
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

return { connectStreams, encode, marked, revive };
})();
