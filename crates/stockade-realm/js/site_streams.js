// `IdentityTransformStream` and `FixedLengthStream`: bytes go through as they are, and a write waits until
// they are read.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  DataViewPrototypeGetBuffer,
  DataViewPrototypeGetByteLength,
  DataViewPrototypeGetByteOffset,
  Number,
  NumberIsSafeInteger,
  ObjectGetOwnPropertyDescriptor,
  Promise,
  PromiseReject,
  PromiseResolve,
  RangeError,
  ReflectApply,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypedArrayPrototypeSlice,
  TypeError,
  Uint8Array,
  WeakMapPrototypeSet,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const {
  createReadableByteStream,
  ReadableByteStreamController,
  readableByteStreamControllerClose,
  readableByteStreamControllerEnqueue,
  readableByteStreamControllerError,
  readableByteStreamControllerRespond,
  TransformStream,
  WritableStream,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { staticBodyLength } = core.loadExtScript("ext:deno_fetch/22_body.js");

const { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(
  ReadableByteStreamController.prototype,
  "byobRequest",
);

// A copy of the bytes that were written: the writer may go on with its own.
function toBytes(chunk) {
  if (typeof chunk === "object" && chunk !== null) {
    if (core.isArrayBuffer(chunk)) return TypedArrayPrototypeSlice(new Uint8Array(chunk));
    if (ArrayBufferIsView(chunk)) {
      const view = TypedArrayPrototypeGetSymbolToStringTag(chunk) === undefined
        ? new Uint8Array(
          DataViewPrototypeGetBuffer(chunk),
          DataViewPrototypeGetByteOffset(chunk),
          DataViewPrototypeGetByteLength(chunk),
        )
        : new Uint8Array(
          TypedArrayPrototypeGetBuffer(chunk),
          TypedArrayPrototypeGetByteOffset(chunk),
          TypedArrayPrototypeGetByteLength(chunk),
        );
      return TypedArrayPrototypeSlice(view);
    }
  }
  const what = chunk === null ? "null" : typeof chunk;
  throw new TypeError(`this stream takes bytes, not ${what}: a text goes through a TextEncoderStream first`);
}

// The two ends; `left` are the bytes that must still come, `undefined` for any number.
function pipe(left, strategy) {
  let controller;
  let wanted; // resolves the read that waits
  let asked = false;
  let onAsked; // resolves the write that waits for a read
  let cancelled;
  const readable = createReadableByteStream(
    (own) => {
      controller = own;
    },
    () =>
      new Promise((resolve) => {
        wanted = resolve;
        asked = true;
        onAsked?.();
      }),
    (reason) => {
      cancelled = { __proto__: null, reason };
      onAsked?.();
      return PromiseResolve(undefined);
    },
  );
  const give = (bytes) => {
    asked = false;
    onAsked = undefined;
    readableByteStreamControllerEnqueue(controller, bytes);
    const done = wanted;
    wanted = undefined;
    done?.();
  };
  const fail = (error) => {
    readableByteStreamControllerError(controller, error);
    return PromiseReject(error);
  };
  const writable = new WritableStream({
    __proto__: null,
    write(chunk) {
      let bytes;
      try {
        bytes = toBytes(chunk);
        const length = TypedArrayPrototypeGetByteLength(bytes);
        if (left !== undefined) {
          if (length > left) {
            throw new TypeError("more bytes were written to the FixedLengthStream than its length");
          }
          left -= length;
        }
        if (length === 0) return undefined;
      } catch (error) {
        return fail(error);
      }
      return new Promise((resolve, reject) => {
        onAsked = () => {
          if (cancelled !== undefined) {
            reject(cancelled.reason ?? new TypeError("the readable end was cancelled"));
            return;
          }
          give(bytes);
          resolve();
        };
        if (asked || cancelled !== undefined) onAsked();
      });
    },
    close() {
      if (cancelled !== undefined) return undefined;
      if (left !== undefined && left > 0) {
        return fail(
          new TypeError(`the FixedLengthStream was closed ${left} bytes before its length`),
        );
      }
      try {
        readableByteStreamControllerClose(controller);
        if (ReflectApply(byobRequestOf, controller, []) !== null) {
          readableByteStreamControllerRespond(controller, 0);
        }
      } catch (error) {
        return PromiseReject(error);
      }
      return undefined;
    },
    abort(reason) {
      readableByteStreamControllerError(controller, reason);
    },
  }, strategy);
  return { __proto__: null, readable, writable };
}

class IdentityTransformStream extends TransformStream {
  #ends;

  constructor(strategy = undefined) {
    super();
    this.#ends = pipe(undefined, strategy);
  }

  get readable() {
    return this.#ends.readable;
  }

  get writable() {
    return this.#ends.writable;
  }
}

class FixedLengthStream extends TransformStream {
  #ends;

  constructor(length, strategy = undefined) {
    super();
    webidl.requiredArguments(arguments.length, 1, "Failed to construct 'FixedLengthStream'");
    const bytes = Number(length);
    if (!NumberIsSafeInteger(bytes) || bytes < 0) {
      throw new RangeError("the length of a FixedLengthStream is a whole number of bytes, not below 0");
    }
    this.#ends = pipe(bytes, strategy);
    WeakMapPrototypeSet(staticBodyLength, this.#ends.readable, bytes);
  }

  get readable() {
    return this.#ends.readable;
  }

  get writable() {
    return this.#ends.writable;
  }
}

return { FixedLengthStream, IdentityTransformStream };
})();
