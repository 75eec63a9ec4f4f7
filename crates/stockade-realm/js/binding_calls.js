// Calls of a binding, and what the objects of several kinds share.
//
// `stockade_capability` describes the two requests, and the module of each kind there is its methods.

(function () {
const { core, primordials } = __bootstrap;
const {
  JSONParse,
  Promise,
  String,
  StringPrototypeIsWellFormed,
  TypeError,
  TypedArrayPrototypeGetBuffer,
} = primordials;
const network = core.loadExtScript("ext:stockade_realm/network.js");
const payload = core.loadExtScript("ext:stockade_payload/payload.js");

function call(binding, method, args) {
  return network.startRequest("binding.call", { __proto__: null, binding, method, args });
}

// As `call`, with arguments that arrive as what they are; so does the result.
function callExactly(binding, method, args) {
  const request = { __proto__: null, binding, method: checkText(method, "the name of a method"), args };
  return network.startRequest("binding.call", request, undefined, payload.encodeExact);
}

// The host holds Unicode text, which a string of JavaScript need not be.
function checkText(text, what) {
  if (!StringPrototypeIsWellFormed(text)) {
    throw new TypeError(
      `${what} must be Unicode text, and half a surrogate pair is none: toWellFormed() replaces it`,
    );
  }
  return text;
}

// A bad argument is a rejection, as every other error is.
function attempt(work) {
  return new Promise((resolve) => resolve(work()));
}

// The text as it was put: `core.decode` leaves out U+FEFF at the beginning.
function textOf(bytes) {
  const text = core.decode(bytes);
  return bytes[0] === 0xEF && bytes[1] === 0xBB && bytes[2] === 0xBF ? "\uFEFF" + text : text;
}

// Bytes as the value of a type, which is a letter of a kind where the guest's code asked for none.
function valueOf(value, type) {
  switch (type) {
    case "t":
    case "text":
      return textOf(value);
    case "j":
    case "json":
      return JSONParse(core.decode(value));
    case "b":
    case "bytes":
      return value;
    case "arrayBuffer":
      return TypedArrayPrototypeGetBuffer(value);
    default:
      throw new TypeError(
        `the type of a value is "text", "json", "bytes" or "arrayBuffer", not "${String(type)}"`,
      );
  }
}

function typeOf(options) {
  return typeof options === "string" ? options : options?.type;
}

return { attempt, call, callExactly, checkText, typeOf, valueOf };
})();
