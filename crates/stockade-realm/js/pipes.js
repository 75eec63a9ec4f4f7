// The guest's end of connections that its host holds. `connect.js` makes sockets of them.
//
// Control messages in both directions, `id` named by the host in its answer to the request that opens a connection:
//   pipe.data { id, chunk }, pipe.credit { id, n }, pipe.end { id }
// Guest to host: pipe.tls { id, name }, pipe.close { id }. Host to guest: pipe.secured { id }, pipe.closed { id },
// pipe.failed { id, name, message, code }, of which the last two are the end.
//
// Invariant: a message costs its bytes and `OVERHEAD`; at most `WINDOW` of cost is on its way in each direction, so
// what waits for a guest that does not read is bounded. The host has the same numbers, in `mirror/pipes.rs`.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayPrototypePush,
  ArrayPrototypeShift,
  Error,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  MathMin,
  ObjectDefineProperty,
  ObjectSetPrototypeOf,
  Promise,
  RangeError,
  SafeMap,
  String,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypeError,
  Uint8Array,
} = primordials;
const network = core.loadExtScript("ext:stockade_realm/network.js");

const WINDOW = 512 * 1024;
const OVERHEAD = 256;
const CHUNK = 64 * 1024;
// A piece is not made smaller than this for want of credit.
const SMALL_CHUNK = 4 * 1024;
const REPORT_AT = WINDOW / 4;

const pipes = new SafeMap(); // id -> Pipe

// One connection. `user` is what is called as things happen: `data()` when there is something to take, `end()` after
// the peer's last byte, `secured()`, and `over(error)` once, with `undefined` where the connection was closed.
class Pipe {
  constructor(id, user) {
    this.id = id;
    this.user = user;
    // What was received and not taken.
    this.inbox = [];
    // Cost of what was taken, not yet given back as credit.
    this.taken = 0;
    // Cost that may still be sent.
    this.credit = WINDOW;
    // The bytes whose turn it is, and what to call when they have been sent or cannot be.
    this.rest = undefined;
    this.sent = undefined;
    this.lost = undefined;
    // The guest's half ends behind what is being sent.
    this.ends = false;
    this.isOver = false;
    MapPrototypeSet(pipes, id, this);
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(Pipe.prototype, null);

// The next bytes that were received, or `undefined`.
function take(pipe) {
  if (pipe.inbox.length === 0) return undefined;
  const bytes = ArrayPrototypeShift(pipe.inbox);
  pipe.taken += TypedArrayPrototypeGetByteLength(bytes) + OVERHEAD;
  if (pipe.taken >= REPORT_AT && !pipe.isOver) {
    network.control("pipe.credit", { __proto__: null, id: pipe.id, n: pipe.taken });
    pipe.taken = 0;
  }
  return bytes;
}

// Sends bytes; a promise where they have to wait. One call after another: the one before must be done.
function send(pipe, bytes) {
  if (pipe.isOver) throw new TypeError("the connection is closed");
  pipe.rest = bytes;
  flush(pipe);
  if (pipe.rest === undefined) return undefined;
  return new Promise((resolve, reject) => {
    pipe.sent = resolve;
    pipe.lost = reject;
  });
}

function flush(pipe) {
  while (pipe.rest !== undefined) {
    const bytes = pipe.rest;
    const length = TypedArrayPrototypeGetByteLength(bytes);
    if (length === 0) {
      pipe.rest = undefined;
      break;
    }
    const size = MathMin(length, CHUNK, pipe.credit - OVERHEAD);
    if (size < MathMin(length, SMALL_CHUNK)) return;
    let piece = bytes;
    if (size < length) {
      const buffer = TypedArrayPrototypeGetBuffer(bytes);
      const offset = TypedArrayPrototypeGetByteOffset(bytes);
      piece = new Uint8Array(buffer, offset, size);
      pipe.rest = new Uint8Array(buffer, offset + size, length - size);
    } else {
      pipe.rest = undefined;
    }
    pipe.credit -= size + OVERHEAD;
    network.control("pipe.data", { __proto__: null, id: pipe.id, chunk: piece });
  }
  const done = pipe.sent;
  pipe.sent = pipe.lost = undefined;
  done?.();
  if (pipe.ends) {
    pipe.ends = false;
    end(pipe);
  }
}

// Nothing may be sent after this.
function end(pipe) {
  if (pipe.rest !== undefined) pipe.ends = true;
  else if (!pipe.isOver) network.control("pipe.end", { __proto__: null, id: pipe.id });
}

function startTls(pipe, name) {
  if (!pipe.isOver) network.control("pipe.tls", { __proto__: null, id: pipe.id, name });
}

function close(pipe) {
  if (!pipe.isOver) network.control("pipe.close", { __proto__: null, id: pipe.id });
}

function finish(pipe, error) {
  MapPrototypeDelete(pipes, pipe.id);
  pipe.isOver = true;
  const lost = pipe.lost;
  pipe.rest = pipe.sent = pipe.lost = undefined;
  pipe.ends = false;
  lost?.(error ?? new TypeError("the connection is closed"));
  pipe.user.over(error);
}

// Why a connection broke. A name and a code that the host gives are meant for the guest.
function failure(name, message, code) {
  const error = name === "TypeError"
    ? new TypeError(message)
    : name === "RangeError"
    ? new RangeError(message)
    : new Error(message);
  if (name !== "TypeError" && name !== "RangeError" && name !== "Error") {
    ObjectDefineProperty(error, "name", {
      __proto__: null,
      value: name,
      configurable: true,
      enumerable: false,
      writable: true,
    });
  }
  if (code !== undefined) {
    ObjectDefineProperty(error, "code", {
      __proto__: null,
      value: code,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
  return error;
}

function on(name, handler) {
  MapPrototypeSet(network.controls, name, (message) => {
    const pipe = MapPrototypeGet(pipes, message.id);
    if (pipe !== undefined) handler(pipe, message);
  });
}

on("pipe.data", (pipe, message) => {
  ArrayPrototypePush(pipe.inbox, message.chunk);
  pipe.user.data();
});
on("pipe.credit", (pipe, message) => {
  pipe.credit = MathMin(pipe.credit + message.n, WINDOW);
  flush(pipe);
});
on("pipe.end", (pipe) => pipe.user.end());
on("pipe.secured", (pipe) => pipe.user.secured());
on("pipe.closed", (pipe) => finish(pipe, undefined));
on("pipe.failed", (pipe, message) => {
  finish(pipe, failure(String(message.name), String(message.message), message.code));
});

return { close, end, Pipe, send, startTls, take };
})();
