// Readable streams across the wall: the reader pulls, the owner answers with one chunk at a time.
//
// Control messages, `id` named by the owner of the stream:
//   reader to owner: stream.pull { id }, stream.cancel { id, reason }
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
  ObjectPrototypeIsPrototypeOf,
  Promise,
  PromisePrototypeThen,
  SafeMap,
  String,
  TypeError,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  Uint8Array,
} = primordials;
const {
  acquireReadableStreamDefaultReader,
  ReadableStream,
  ReadableStreamPrototype,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextEncoder } = core.loadExtScript("ext:deno_web/08_text_encoding.js");

// Streams that one side has handed out and not yet finished: more are refused.
const MAX_STREAMS = 1024;

function create(control) {
  const owned = new SafeMap(); // id -> reader of a stream the other side reads
  const remote = new SafeMap(); // id -> controller of a stream this side reads
  const encoder = new TextEncoder();
  let nextId = 0;
  let ownedCount = 0;

  function isStream(value) {
    return ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, value);
  }

  function exportStream(stream) {
    if (ownedCount >= MAX_STREAMS) {
      throw new TypeError(`at most ${MAX_STREAMS} streams may be open at once`);
    }
    const reader = acquireReadableStreamDefaultReader(stream);
    const id = nextId++;
    ownedCount++;
    MapPrototypeSet(owned, id, reader);
    return id;
  }

  function forget(id) {
    if (MapPrototypeDelete(owned, id)) ownedCount--;
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

  function pull(id) {
    const reader = MapPrototypeGet(owned, id);
    if (reader === undefined) return;
    PromisePrototypeThen(
      reader.read(),
      ({ done, value }) => {
        if (done) {
          forget(id);
          control("stream.end", { __proto__: null, id });
          return;
        }
        try {
          control("stream.chunk", { __proto__: null, id, chunk: toBytes(value) });
        } catch (error) {
          fail(id, reader, error);
        }
      },
      (error) => fail(id, reader, error),
    );
  }

  function fail(id, reader, error) {
    forget(id);
    PromisePrototypeThen(reader.cancel(error), undefined, () => {});
    control("stream.error", { __proto__: null, id, message: messageOf(error) });
  }

  function importStream(id) {
    let waiting;
    return new ReadableStream({
      pull(controller) {
        return new Promise((resolve) => {
          waiting = resolve;
          MapPrototypeSet(remote, id, {
            __proto__: null,
            controller,
            settle() {
              waiting?.();
              waiting = undefined;
            },
          });
          control("stream.pull", { __proto__: null, id });
        });
      },
      cancel(reason) {
        MapPrototypeDelete(remote, id);
        control("stream.cancel", { __proto__: null, id, reason: messageOf(reason) });
      },
    }, { highWaterMark: 0 });
  }

  // Takes a control message; false if it is not about streams.
  function receive(name, data) {
    const id = data?.id;
    switch (name) {
      case "stream.pull":
        pull(id);
        return true;
      case "stream.cancel": {
        const reader = MapPrototypeGet(owned, id);
        if (reader !== undefined) {
          forget(id);
          PromisePrototypeThen(reader.cancel(new Error(String(data.reason))), undefined, () => {});
        }
        return true;
      }
      case "stream.chunk":
      case "stream.end":
      case "stream.error": {
        const entry = MapPrototypeGet(remote, id);
        if (entry === undefined) return true;
        if (name === "stream.chunk") {
          entry.controller.enqueue(data.chunk);
        } else {
          MapPrototypeDelete(remote, id);
          if (name === "stream.end") entry.controller.close();
          else entry.controller.error(new TypeError(String(data.message)));
        }
        entry.settle();
        return true;
      }
      default:
        return false;
    }
  }

  return { exportStream, importStream, isStream, receive };
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
