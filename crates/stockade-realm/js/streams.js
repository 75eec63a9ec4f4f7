// Readable streams across the wall: the reader asks for chunks, the owner sends no more than that.
//
// Control messages, `id` named by the owner of the stream:
//   reader to owner: stream.pull { id, n } (without `n`, one more chunk), stream.cancel { id, reason }
//   owner to reader: stream.chunk { id, chunk }, stream.end { id }, stream.error { id, message }
// Both realms load this file; `control(name, data)` sends, `receive(name, data)` takes.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  Error,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  MathMin,
  ObjectPrototypeIsPrototypeOf,
  Promise,
  PromisePrototypeThen,
  SafeMap,
  SafeWeakMap,
  String,
  TypeError,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  Uint8Array,
  WeakMapPrototypeGet,
  WeakMapPrototypeSet,
} = primordials;
const {
  acquireReadableStreamDefaultReader,
  isReadableStreamDisturbed,
  ReadableStream,
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

function create(control) {
  const owned = new SafeMap(); // id -> Source: a stream the other side reads
  const remote = new SafeMap(); // id -> what feeds a stream that this side reads
  const imported = new SafeWeakMap(); // stream that this side reads -> id
  const encoder = new TextEncoder();
  let nextId = 0;
  let ownedCount = 0;
  // Chunks that this side asks for at once, and the bytes that a chunk of its own may have.
  let ahead = 1;
  let chunkBytes = UNBOUNDED;
  // Whether a stream's end is heard before its first read. Then whoever owns it must always tell its end,
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

  // `onDone`, where given, hears that the other side will read no more.
  function exportStream(stream, onDone = undefined) {
    if (ownedCount >= MAX_STREAMS) {
      throw new TypeError(`at most ${MAX_STREAMS} streams may be open at once`);
    }
    const reader = acquireReadableStreamDefaultReader(stream);
    const id = nextId++;
    ownedCount++;
    MapPrototypeSet(owned, id, {
      __proto__: null,
      id,
      reader,
      wanted: 0,
      reading: false,
      rest: null,
      onDone,
    });
    return id;
  }

  function forget(source) {
    if (!MapPrototypeDelete(owned, source.id)) return;
    ownedCount--;
    source.onDone?.();
  }

  function toBytes(chunk) {
    if (typeof chunk === "string") return encoder.encode(chunk);
    if (ArrayBufferIsView(chunk) && TypedArrayPrototypeGetSymbolToStringTag(chunk) !== undefined) {
      return new Uint8Array(
        TypedArrayPrototypeGetBuffer(chunk),
        TypedArrayPrototypeGetByteOffset(chunk),
        TypedArrayPrototypeGetByteLength(chunk),
      );
    }
    throw new TypeError("a chunk of a stream that crosses the wall must be text or bytes");
  }

  function pull(id, count) {
    const source = MapPrototypeGet(owned, id);
    if (source === undefined) return;
    source.wanted = MathMin(source.wanted + count, MAX_AHEAD);
    advance(source);
  }

  // Sends what is wanted and there; reads on when more is wanted.
  function advance(source) {
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
        try {
          source.rest = toBytes(value);
        } catch (error) {
          fail(source, error);
          return;
        }
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
      control("stream.chunk", { __proto__: null, id: source.id, chunk: piece });
      return true;
    } catch (error) {
      fail(source, error);
      return false;
    }
  }

  function fail(source, error) {
    if (MapPrototypeGet(owned, source.id) !== source) return;
    forget(source);
    PromisePrototypeThen(source.reader.cancel(error), undefined, () => {});
    control("stream.error", { __proto__: null, id: source.id, message: messageOf(error) });
  }

  function importStream(id) {
    // `asked`: chunks that are still to come. They are asked for when a read finds none.
    const feed = { __proto__: null, controller: undefined, settle: undefined, asked: 0 };
    const stream = new ReadableStream({
      start(controller) {
        feed.controller = controller;
        if (early) MapPrototypeSet(remote, id, feed);
      },
      pull() {
        return new Promise((resolve) => {
          feed.settle = resolve;
          if (feed.asked > 0) return;
          MapPrototypeSet(remote, id, feed);
          feed.asked = ahead;
          const request = ahead === 1
            ? { __proto__: null, id }
            : { __proto__: null, id, n: ahead };
          control("stream.pull", request);
        });
      },
      cancel(reason) {
        MapPrototypeDelete(remote, id);
        control("stream.cancel", { __proto__: null, id, reason: messageOf(reason) });
      },
    }, { highWaterMark: 0 });
    if (early) WeakMapPrototypeSet(imported, stream, id);
    return stream;
  }

  // The id of a stream of the other side that nobody has read from, and that nobody can read any more:
  // it is given back. Otherwise `undefined`.
  function giveBack(stream) {
    const id = WeakMapPrototypeGet(imported, stream);
    if (id === undefined || stream.locked || isReadableStreamDisturbed(stream)) return undefined;
    const feed = MapPrototypeGet(remote, id);
    if (feed === undefined || feed.asked > 0) return undefined;
    acquireReadableStreamDefaultReader(stream);
    readableStreamDisturb(stream);
    MapPrototypeDelete(remote, id);
    return id;
  }

  // Takes a control message; false if it is not about streams.
  function receive(name, data) {
    const id = data?.id;
    switch (name) {
      case "stream.pull": {
        const count = data.n;
        pull(id, typeof count === "number" && count > 1 ? count : 1);
        return true;
      }
      case "stream.cancel": {
        const source = MapPrototypeGet(owned, id);
        if (source !== undefined) {
          forget(source);
          const reason = new Error(String(data.reason));
          PromisePrototypeThen(source.reader.cancel(reason), undefined, () => {});
        }
        return true;
      }
      case "stream.chunk":
      case "stream.end":
      case "stream.error": {
        const feed = MapPrototypeGet(remote, id);
        if (feed === undefined) return true;
        if (name === "stream.chunk") {
          feed.asked--;
          feed.controller.enqueue(data.chunk);
        } else {
          MapPrototypeDelete(remote, id);
          if (name === "stream.end") feed.controller.close();
          else feed.controller.error(new TypeError(String(data.message)));
        }
        feed.settle?.();
        feed.settle = undefined;
        return true;
      }
      default:
        return false;
    }
  }

  return { configure, exportStream, giveBack, importStream, isStream, receive };
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
