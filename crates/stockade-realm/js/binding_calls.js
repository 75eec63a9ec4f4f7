// Calls of a binding, and what the objects of several kinds share.
//
// `stockade_capability` describes the two requests, and the module of each kind there is its methods.

(function () {
const { core, primordials } = __bootstrap;
const {
  JSONParse,
  Promise,
  PromisePrototypeThen,
  String,
  StringPrototypeIndexOf,
  StringPrototypeIsWellFormed,
  StringPrototypeSlice,
  TypeError,
  TypedArrayPrototypeGetBuffer,
} = primordials;
const { acquireReadableStreamDefaultReader, ReadableStream } = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextDecoder } = core.loadExtScript("ext:deno_web/08_text_encoding.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");

function call(binding, method, args) {
  return network.startRequest("binding.call", trace.mark({ __proto__: null, binding, method, args }));
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

// The values that a stream of lines of JSON holds.
function lines(opening) {
  const decoder = new TextDecoder();
  let reader;
  let text = "";
  const take = (controller) => {
    let given = false;
    for (;;) {
      const end = StringPrototypeIndexOf(text, "\n");
      if (end === -1) return given;
      const line = StringPrototypeSlice(text, 0, end);
      text = StringPrototypeSlice(text, end + 1);
      if (line === "") continue;
      controller.enqueue(JSONParse(line));
      given = true;
    }
  };
  const read = (controller) =>
    PromisePrototypeThen(reader.read(), ({ done, value }) => {
      if (done) {
        controller.close();
        return undefined;
      }
      text += decoder.decode(value, { __proto__: null, stream: true });
      return take(controller) ? undefined : read(controller);
    });
  const opened = PromisePrototypeThen(opening, (stream) => {
    reader = acquireReadableStreamDefaultReader(stream);
  });
  // The reader of the stream gets the error.
  PromisePrototypeThen(opened, undefined, () => {});
  return new ReadableStream({
    __proto__: null,
    pull: (controller) => PromisePrototypeThen(opened, () => read(controller)),
    cancel: (reason) => PromisePrototypeThen(opened, () => reader.cancel(reason)),
  }, { __proto__: null, highWaterMark: 0 });
}

return { attempt, call, checkText, lines, typeOf, valueOf };
})();
