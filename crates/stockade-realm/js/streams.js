// Readable streams between host and guest: the reader asks for chunks, the owner sends no more than that.
//
// Control messages, `id` named by the owner of the stream:
//   reader to owner: stream.pull { id, n } (without `n`, one more chunk), stream.cancel { id, reason }
//   owner to reader: stream.chunk { id, chunk }, stream.end { id }, stream.error { id, message }
// Both realms load this file; `control(name, data)` sends, `receive(name, data)` takes. `sendChunk(id, bytes)`, where
// given, sends a chunk with fewer copies of it. `congested()`, where
// given, is a promise for as long as the other side does not take what it was sent.
//
// Invariant: a stream that this side reads is held by its readers, and by `remote` only while a read
// waits. One that is collected unread is cancelled, so that its owner does not keep it for ever; where many
// are open, `collect`, if given, has garbage collected.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  Error,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  MathFloor,
  MathMax,
  MathMin,
  ObjectGetOwnPropertyDescriptor,
  ObjectPrototypeIsPrototypeOf,
  Promise,
  PromisePrototypeThen,
  ReflectApply,
  SafeFinalizationRegistry,
  SafeMap,
  SafeWeakMap,
  SafeWeakRef,
  String,
  TypeError,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  Uint8Array,
  WeakMapPrototypeGet,
  WeakMapPrototypeSet,
  WeakRefPrototypeDeref,
} = primordials;
const {
  acquireReadableStreamDefaultReader,
  createReadableByteStream,
  isReadableStreamDisturbed,
  isReadableStreamLocked,
  ReadableByteStreamController,
  readableByteStreamControllerClose,
  readableByteStreamControllerEnqueue,
  readableByteStreamControllerError,
  readableByteStreamControllerRespond,
  readableStreamCancel,
  readableStreamDisturb,
  ReadableStreamPrototype,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextEncoder } = core.loadExtScript("ext:deno_web/08_text_encoding.js");

// Streams that one side has handed out and not yet finished: more are refused.
const MAX_STREAMS = 1024;

// The most chunks that a reader may have asked for and not yet received.
const MAX_AHEAD = 1024;

// A chunk as long as it comes: the message that carries it has a bound of its own.
const UNBOUNDED = 2 ** 53;

const { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(
  ReadableByteStreamController.prototype,
  "byobRequest",
);

const collected = new SafeFinalizationRegistry((gone) => gone());

function noop() {}

function isBytes(chunk) {
  return ArrayBufferIsView(chunk) && TypedArrayPrototypeGetSymbolToStringTag(chunk) === "Uint8Array";
}

// Ends a stream; reads into a buffer that wait get it back empty.
function close(controller) {
  try {
    readableByteStreamControllerClose(controller);
    if (ReflectApply(byobRequestOf, controller, []) !== null) {
      readableByteStreamControllerRespond(controller, 0);
    }
  } catch {
    // The reader's buffer has elements of several bytes and the last one is not whole: it has the error.
  }
}

// Streams that this side may read before it has garbage collected; twice those that are left, from then on.
const MANY = 16;

// With more of them, garbage is collected at once.
const TOO_MANY = 200;

// `most`: streams that the other side may have handed out; an honest one has no more than `MAX_STREAMS`.
function create(
  control,
  { collect = undefined, congested = undefined, most = undefined, sendChunk = undefined },
) {
  const owned = new SafeMap(); // id -> Source: a stream the other side reads
  const remote = new SafeMap(); // id -> Feed: what feeds a stream that this side reads
  const imported = new SafeWeakMap(); // stream that this side reads -> its Feed
  const guarded = new SafeWeakMap(); // stream whose chunks must be bytes -> what to call when it fails
  const exported = new SafeWeakMap(); // such a stream that was handed out -> its Source
  const encoder = new TextEncoder();
  let nextId = 0;
  let ownedCount = 0;
  let remoteCount = 0;
  let many = MANY;
  // Chunks that this side asks for at once, and the bytes that a chunk of its own may have.
  let ahead = 1;
  let chunkBytes = UNBOUNDED;
  // Whether a stream's end is received before its first read. Then its owner must always report its end,
  // or what stands in `remote` for it would stay.
  let early = false;

  function configure(options) {
    ahead = options.ahead;
    chunkBytes = options.chunkBytes;
    early = options.early;
  }

  function isStream(value) {
    return ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, value);
  }

  // `onDone`, where given, is called when the other side will read no more.
  function exportStream(stream, onDone = undefined) {
    if (ownedCount >= MAX_STREAMS) {
      throw new TypeError(`at most ${MAX_STREAMS} streams may be open at once`);
    }
    const reader = acquireReadableStreamDefaultReader(stream);
    const id = nextId++;
    ownedCount++;
    const source = {
      __proto__: null,
      id,
      reader,
      wanted: 0,
      reading: false,
      waiting: false,
      rest: null,
      onDone,
      onFail: WeakMapPrototypeGet(guarded, stream),
    };
    MapPrototypeSet(owned, id, source);
    if (source.onFail !== undefined) WeakMapPrototypeSet(exported, stream, source);
    return id;
  }

  // A stream was handed out by a message that is not sent.
  function withdraw(id) {
    const source = MapPrototypeGet(owned, id);
    if (source === undefined) return;
    forget(source);
    source.reader.releaseLock();
  }

  // Of a stream that is about to be handed out: its chunks must be bytes, and `onFail` is called with the
  // error when it fails.
  function guard(stream, onFail) {
    WeakMapPrototypeSet(guarded, stream, onFail);
  }

  // Of such a stream: what it was for has failed, and nobody reads it any more.
  function stop(stream, reason) {
    const source = WeakMapPrototypeGet(exported, stream);
    if (source === undefined || MapPrototypeGet(owned, source.id) !== source) {
      discard(stream, reason);
      return;
    }
    fail(source, reason);
  }

  function forget(source) {
    if (!MapPrototypeDelete(owned, source.id)) return;
    ownedCount--;
    source.onDone?.();
  }

  function toBytes(chunk, strict) {
    if (strict) {
      if (isBytes(chunk)) return chunk;
      throw new TypeError(`a chunk of a body must be a Uint8Array, not ${describe(chunk)}`);
    }
    if (typeof chunk === "string") return encoder.encode(chunk);
    if (ArrayBufferIsView(chunk) && TypedArrayPrototypeGetSymbolToStringTag(chunk) !== undefined) {
      return new Uint8Array(
        TypedArrayPrototypeGetBuffer(chunk),
        TypedArrayPrototypeGetByteOffset(chunk),
        TypedArrayPrototypeGetByteLength(chunk),
      );
    }
    throw new TypeError("a chunk of a stream to the other side must be text or bytes");
  }

  function pull(id, count) {
    const source = MapPrototypeGet(owned, id);
    if (source === undefined) return;
    source.wanted = MathMin(source.wanted + count, MAX_AHEAD);
    advance(source);
  }

  // Sends what is wanted and there; reads on when more is wanted.
  function advance(source) {
    if (source.waiting) return;
    const room = source.wanted === 0 ? undefined : congested?.();
    if (room !== undefined) {
      const goOn = () => {
        source.waiting = false;
        if (MapPrototypeGet(owned, source.id) === source) advance(source);
      };
      source.waiting = true;
      PromisePrototypeThen(room, goOn, goOn);
      return;
    }
    while (source.rest !== null && source.wanted > 0) {
      if (!sendPiece(source)) return;
    }
    if (source.wanted === 0 || source.reading) return;
    source.reading = true;
    PromisePrototypeThen(
      source.reader.read(),
      ({ done, value }) => {
        source.reading = false;
        if (MapPrototypeGet(owned, source.id) !== source) return;
        if (done) {
          forget(source);
          control("stream.end", { __proto__: null, id: source.id });
          return;
        }
        let bytes;
        try {
          bytes = toBytes(value, source.onFail !== undefined);
        } catch (error) {
          fail(source, error);
          return;
        }
        // An empty chunk says nothing: the reader still waits for one.
        if (TypedArrayPrototypeGetByteLength(bytes) > 0) source.rest = bytes;
        advance(source);
      },
      (error) => fail(source, error),
    );
  }

  function sendPiece(source) {
    try {
      let piece = source.rest;
      const length = TypedArrayPrototypeGetByteLength(piece);
      if (length > chunkBytes) {
        const buffer = TypedArrayPrototypeGetBuffer(piece);
        const offset = TypedArrayPrototypeGetByteOffset(piece);
        piece = new Uint8Array(buffer, offset, chunkBytes);
        source.rest = new Uint8Array(buffer, offset + chunkBytes, length - chunkBytes);
      } else {
        source.rest = null;
      }
      source.wanted--;
      if (sendChunk !== undefined) sendChunk(source.id, piece);
      else control("stream.chunk", { __proto__: null, id: source.id, chunk: piece });
      return true;
    } catch (error) {
      fail(source, error);
      return false;
    }
  }

  function fail(source, error) {
    if (MapPrototypeGet(owned, source.id) !== source) return;
    forget(source);
    PromisePrototypeThen(source.reader.cancel(error), undefined, noop);
    control("stream.error", { __proto__: null, id: source.id, message: messageOf(error) });
    source.onFail?.(error);
  }

  function importStream(id) {
    if (most !== undefined && remoteCount >= most) {
      throw new TypeError(`at most ${most} streams may be open at once`);
    }
    // `asked`: chunks that are still to come. They are asked for when a read finds none.
    const feed = {
      __proto__: null,
      id,
      // Of the stream's controller: strong while a read waits, else weak.
      reading: undefined,
      weak: undefined,
      settle: undefined,
      asked: 0,
      // The other side has ended it, or is to do so.
      over: false,
      // It must not be given back.
      kept: false,
    };
    const start = (controller) => {
      feed.weak = new SafeWeakRef(controller);
      if (early) MapPrototypeSet(remote, id, feed);
    };
    const pull = (controller) =>
      new Promise((resolve) => {
        feed.reading = controller;
        feed.settle = resolve;
        if (feed.asked === 0) ask(feed);
      });
    const cancel = (reason) =>
      new Promise((resolve) => {
        giveUp(feed, reason);
        resolve();
      });
    const stream = createReadableByteStream(start, pull, cancel);
    WeakMapPrototypeSet(imported, stream, feed);
    remoteCount++;
    if (collect !== undefined && remoteCount > many) {
      many = 2 * remoteCount;
      collect(remoteCount > TOO_MANY);
    }
    // Holds the feed and not the stream.
    collected.register(stream, () => {
      try {
        giveUp(feed, "nobody reads it any more");
      } catch {
        // The isolate ends, and everything with it.
      }
    });
    return stream;
  }

  // The other side has refused something: it may be for streams that nobody can read any more.
  function refused() {
    if (collect !== undefined && remoteCount > MANY) collect(false);
  }

  function ask(feed) {
    const { id } = feed;
    MapPrototypeSet(remote, id, feed);
    feed.asked = ahead;
    const request = ahead === 1 ? { __proto__: null, id } : { __proto__: null, id, n: ahead };
    control("stream.pull", request);
  }

  // Has the owner stop: nothing more is wanted.
  function giveUp(feed, reason) {
    if (feed.over) return;
    end(feed);
    control("stream.cancel", { __proto__: null, id: feed.id, reason: messageOf(reason) });
  }

  function end(feed) {
    feed.over = true;
    MapPrototypeDelete(remote, feed.id);
    remoteCount--;
    if (4 * remoteCount < many && many > MANY) many = MathMax(MANY, 2 * remoteCount);
  }

  // Cancels a stream that nobody has got to see.
  function discard(stream, reason = "nobody reads it") {
    if (isReadableStreamLocked(stream)) return;
    PromisePrototypeThen(readableStreamCancel(stream, reason), undefined, noop);
  }

  // A stream that this side reads and may have to fail: it is not given back.
  function keep(stream) {
    const feed = WeakMapPrototypeGet(imported, stream);
    if (feed !== undefined) feed.kept = true;
  }

  // Fails a stream that this side reads, for its reader, and has its owner stop; false if it is none.
  function abort(stream, reason) {
    const feed = WeakMapPrototypeGet(imported, stream);
    if (feed === undefined) return false;
    const controller = WeakRefPrototypeDeref(feed.weak);
    if (controller !== undefined) readableByteStreamControllerError(controller, reason);
    giveUp(feed, reason);
    settle(feed);
    return true;
  }

  // The id of a stream of the other side that nobody has read from, and that nobody can read any more:
  // it is given back. Otherwise `undefined`.
  function giveBack(stream) {
    const feed = WeakMapPrototypeGet(imported, stream);
    if (!early || feed === undefined || feed.over || feed.kept || feed.asked > 0) return undefined;
    if (isReadableStreamLocked(stream) || isReadableStreamDisturbed(stream)) return undefined;
    acquireReadableStreamDefaultReader(stream);
    readableStreamDisturb(stream);
    end(feed);
    return feed.id;
  }

  // The read that waited, if one did, has what it waited for.
  function settle(feed) {
    feed.reading = undefined;
    const done = feed.settle;
    feed.settle = undefined;
    done?.();
  }

  function take(feed, name, data) {
    const controller = feed.reading ?? WeakRefPrototypeDeref(feed.weak);
    if (name === "stream.chunk") {
      // What was not asked for is not taken.
      if (feed.asked === 0) return;
      feed.asked--;
      const { chunk } = data;
      if (!isBytes(chunk)) {
        if (controller !== undefined) {
          readableByteStreamControllerError(controller, new TypeError("a chunk is not bytes"));
        }
        giveUp(feed, "a chunk is not bytes");
      } else if (TypedArrayPrototypeGetByteLength(chunk) === 0) {
        if (feed.asked === 0 && feed.settle !== undefined) ask(feed);
        return;
      } else if (controller !== undefined) {
        readableByteStreamControllerEnqueue(controller, chunk);
      }
    } else {
      end(feed);
      if (controller !== undefined) {
        if (name === "stream.end") close(controller);
        else readableByteStreamControllerError(controller, new TypeError(String(data.message)));
      }
    }
    settle(feed);
  }

  // Takes a control message; false if it is not about streams.
  function receive(name, data) {
    const id = data?.id;
    switch (name) {
      case "stream.pull": {
        const count = data.n;
        pull(id, typeof count === "number" && count > 1 ? MathFloor(count) : 1);
        return true;
      }
      case "stream.cancel": {
        const source = MapPrototypeGet(owned, id);
        if (source !== undefined) {
          forget(source);
          const reason = new Error(String(data.reason));
          PromisePrototypeThen(source.reader.cancel(reason), undefined, noop);
        }
        return true;
      }
      case "stream.chunk":
      case "stream.end":
      case "stream.error": {
        const feed = MapPrototypeGet(remote, id);
        if (feed !== undefined) take(feed, name, data);
        return true;
      }
      default:
        return false;
    }
  }

  return {
    abort,
    configure,
    discard,
    exportStream,
    giveBack,
    guard,
    importStream,
    isStream,
    keep,
    receive,
    refused,
    stop,
    withdraw,
  };
}

function describe(value) {
  if (value === null) return "null";
  return typeof value === "object" ? "another object" : `a ${typeof value}`;
}

function messageOf(reason) {
  if (reason === undefined) return "cancelled";
  try {
    return String(reason?.message ?? reason);
  } catch {
    return "unknown reason";
  }
}

return { create };
})();
