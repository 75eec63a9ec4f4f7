// `IdentityTransformStream` and `FixedLengthStream`: bytes go through as they are, and texts as UTF-8. A write
// waits until its bytes are read.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayBufferPrototypeGetByteLength,
  DataViewPrototypeGetBuffer,
  DataViewPrototypeGetByteLength,
  DataViewPrototypeGetByteOffset,
  MathMin,
  Number,
  NumberIsInteger,
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
const abort = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const {
  createReadableByteStream,
  ReadableByteStreamController,
  readableByteStreamControllerClose,
  readableByteStreamControllerEnqueue,
  readableByteStreamControllerError,
  readableByteStreamControllerRespond,
  TransformStream,
  WritableStream,
  WritableStreamDefaultController,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { staticBodyLength } = core.loadExtScript("ext:deno_fetch/22_body.js");

const { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(
  ReadableByteStreamController.prototype,
  "byobRequest",
);
const { get: signalOf } = ObjectGetOwnPropertyDescriptor(
  WritableStreamDefaultController.prototype,
  "signal",
);

// A length has 64 bits.
const MAX_LENGTH = 0xffff_ffff_ffff_ffffn;

// A copy of the bytes that were written: the writer may go on with its own.
function toBytes(chunk) {
  if (typeof chunk === "string") return core.encode(chunk);
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
  throw new TypeError(`this stream takes bytes and texts, not ${what}`);
}

// What a chunk counts in the queue of a stream with a `highWaterMark`; of a text the most that it can be.
function sizeOf(chunk) {
  if (typeof chunk === "string") return 3 * chunk.length;
  if (typeof chunk !== "object" || chunk === null) return 1;
  if (core.isArrayBuffer(chunk)) return ArrayBufferPrototypeGetByteLength(chunk);
  if (!ArrayBufferIsView(chunk)) return 1;
  return TypedArrayPrototypeGetSymbolToStringTag(chunk) === undefined
    ? DataViewPrototypeGetByteLength(chunk)
    : TypedArrayPrototypeGetByteLength(chunk);
}

// In bytes where there is a `highWaterMark`, and that is no more than will ever be written.
function strategyOf(strategy, length) {
  const highWaterMark = strategy?.highWaterMark;
  if (highWaterMark === undefined) return undefined;
  return { __proto__: null, highWaterMark: MathMin(Number(highWaterMark), length), size: sizeOf };
}

// The two ends; `left` are the bytes that must still come, `undefined` for any number.
function pipe(left, strategy) {
  let controller;
  let wanted; // resolves the read that waits
  let asked = false;
  let onAsked; // resolves the write that waits for a read
  let onAborted; // rejects it
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
  if (NumberIsSafeInteger(left)) WeakMapPrototypeSet(staticBodyLength, readable, left);
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
    // An abort does not wait for the read that a write waits for.
    start(sink) {
      const signal = ReflectApply(signalOf, sink, []);
      signal[abort.add](() => {
        onAsked = undefined;
        readableByteStreamControllerError(controller, signal.reason);
        onAborted?.(signal.reason);
      });
    },
    write(chunk) {
      let bytes;
      try {
        bytes = toBytes(chunk);
        const length = TypedArrayPrototypeGetByteLength(bytes);
        if (left !== undefined) {
          if (length > left) {
            throw new RangeError("Attempt to write too many bytes through a FixedLengthStream.");
          }
          left -= length;
        }
        if (length === 0) return undefined;
      } catch (error) {
        return fail(error);
      }
      return new Promise((resolve, reject) => {
        onAborted = reject;
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
          new RangeError(`FixedLengthStream did not see all expected bytes before close(): ${left} are missing`),
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
  }, strategyOf(strategy, left ?? Infinity));
  return { __proto__: null, readable, writable };
}

// Who has it may make a stream of a length.
const ours = { __proto__: null };

class IdentityTransformStream extends TransformStream {
  #ends;

  constructor(strategy = undefined, key = undefined, length = undefined) {
    super();
    this.#ends = pipe(key === ours ? length : undefined, strategy);
  }

  get readable() {
    return this.#ends.readable;
  }

  get writable() {
    return this.#ends.writable;
  }
}

class FixedLengthStream extends IdentityTransformStream {
  constructor(length, strategy = undefined) {
    webidl.requiredArguments(arguments.length, 1, "Failed to construct 'FixedLengthStream'");
    if (typeof length !== "bigint") length = Number(length);
    const whole = typeof length === "bigint" || NumberIsInteger(length);
    if (!whole || length < 0 || length > MAX_LENGTH) {
      throw new RangeError("the length of a FixedLengthStream is a whole number of bytes, not below 0");
    }
    super(strategy, ours, Number(length));
  }
}
webidl.configureInterface(IdentityTransformStream);
webidl.configureInterface(FixedLengthStream);

return { FixedLengthStream, IdentityTransformStream };
})();
