// Datagrams over UDP with one address: `datagram()` of "stockade:sockets", and those of a client. The host sends and
// receives them; on the way each is its length in two bytes, the higher one first, and its data.

(function () {
const { core, primordials } = __bootstrap;
const {
  Promise,
  PromisePrototypeThen,
  SymbolAsyncDispose,
  SymbolAsyncIterator,
  TypeError,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeSet,
  TypedArrayPrototypeSlice,
  TypedArrayPrototypeSubarray,
  RangeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { ReadableStream, WritableStream } = core.loadExtScript("ext:deno_web/06_streams.js");
const { accept, openDatagrams, toBytes } = core.loadExtScript("ext:stockade_realm/connect.js");

const HEAD = 2;
const MOST = 65507;

const ours = { __proto__: null };

// The datagrams that a socket's bytes are.
class Datagrams {
  #writer;
  #reader;
  // What was received and is not whole.
  #rest = new Uint8Array(0);

  constructor(socket) {
    this.#writer = socket.writable.getWriter();
    this.#reader = socket.readable.getReader();
    PromisePrototypeThen(this.#writer.closed, undefined, () => {});
    PromisePrototypeThen(this.#reader.closed, undefined, () => {});
  }

  // A promise; it is settled when the datagram is on its way to the host.
  send(data) {
    const bytes = toBytes(data);
    const length = TypedArrayPrototypeGetByteLength(bytes);
    if (length > MOST) throw new RangeError(`a datagram has at most ${MOST} bytes, not ${length}`);
    const frame = new Uint8Array(HEAD + length);
    frame[0] = length >> 8;
    frame[1] = length & 0xff;
    TypedArrayPrototypeSet(frame, bytes, HEAD);
    return this.#writer.write(frame);
  }

  // The next datagram, `undefined` after the last one.
  async next() {
    for (;;) {
      const rest = this.#rest;
      const have = TypedArrayPrototypeGetByteLength(rest);
      if (have >= HEAD) {
        const length = rest[0] * 256 + rest[1];
        if (have >= HEAD + length) {
          this.#rest = TypedArrayPrototypeSubarray(rest, HEAD + length);
          return TypedArrayPrototypeSlice(rest, HEAD, HEAD + length);
        }
      }
      const { done, value } = await this.#reader.read();
      if (done) return undefined;
      const more = new Uint8Array(have + TypedArrayPrototypeGetByteLength(value));
      TypedArrayPrototypeSet(more, rest, 0);
      TypedArrayPrototypeSet(more, value, have);
      this.#rest = more;
    }
  }

  // No datagram is sent after this.
  end() {
    return this.#writer.close();
  }
}

class DatagramSocket {
  #socket;
  #datagrams;

  constructor(key, socket) {
    if (key !== ours) webidl.illegalConstructor();
    this.#socket = socket;
    this.#datagrams = new Datagrams(socket);
  }

  get opened() {
    return this.#socket.opened;
  }

  get closed() {
    return this.#socket.closed;
  }

  // Resolves when the datagram is on its way to the host; whether it arrives nobody knows.
  send(data) {
    return new Promise((resolve) => resolve(this.#datagrams.send(data)));
  }

  // The next datagram; `done` when it is closed.
  async next() {
    const value = await this.#datagrams.next();
    return { done: value === undefined, value };
  }

  return() {
    return PromisePrototypeThen(this.close(), () => ({ done: true, value: undefined }));
  }

  [SymbolAsyncIterator]() {
    return this;
  }

  close() {
    return this.#socket.close();
  }

  [SymbolAsyncDispose]() {
    return this.close();
  }
}
webidl.configureInterface(DatagramSocket);

function datagram(address) {
  return new DatagramSocket(ours, openDatagrams(address));
}

// The datagrams of a client, as a `Socket` whose streams have a datagram in each chunk.
class ClientDatagrams {
  #socket;
  #readable;
  #writable;

  constructor(key, socket) {
    if (key !== ours) webidl.illegalConstructor();
    const datagrams = new Datagrams(socket);
    this.#socket = socket;
    this.#readable = new ReadableStream({
      __proto__: null,
      async pull(controller) {
        const data = await datagrams.next();
        if (data === undefined) controller.close();
        else controller.enqueue(data);
      },
      cancel: () => socket.close(),
    }, { __proto__: null, highWaterMark: 0 });
    this.#writable = new WritableStream({
      __proto__: null,
      write: (chunk) => datagrams.send(chunk),
      close: () => datagrams.end(),
      abort: () => socket.close(),
    });
  }

  get readable() {
    return this.#readable;
  }

  get writable() {
    return this.#writable;
  }

  get opened() {
    return this.#socket.opened;
  }

  get closed() {
    return this.#socket.closed;
  }

  get upgraded() {
    return false;
  }

  get secureTransport() {
    return "off";
  }

  get protocol() {
    return "udp";
  }

  close() {
    return this.#socket.close();
  }

  startTls() {
    throw new TypeError("startTls() needs a connection over TCP, and this one has datagrams");
  }

  [SymbolAsyncDispose]() {
    return this.close();
  }
}
webidl.configureInterface(ClientDatagrams);

// A flow of datagrams of a client, which is open.
function acceptDatagrams(info) {
  return new ClientDatagrams(ours, accept(info, false));
}

return { acceptDatagrams, datagram };
})();
