// `datagram()` of "stockade:sockets": datagrams over UDP with one address. The host sends and receives them; on the way each
// is its length in two bytes, the higher one first, and its data.

(function () {
const { core, primordials } = __bootstrap;
const {
  Promise,
  PromisePrototypeThen,
  SymbolAsyncDispose,
  SymbolAsyncIterator,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeSet,
  TypedArrayPrototypeSlice,
  TypedArrayPrototypeSubarray,
  RangeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { openDatagrams, toBytes } = core.loadExtScript("ext:stockade_realm/connect.js");

const HEAD = 2;
const MOST = 65507;

const ours = { __proto__: null };

class DatagramSocket {
  #socket;
  #writer;
  #reader;
  // What was received and is not whole.
  #rest = new Uint8Array(0);

  constructor(key, socket) {
    if (key !== ours) webidl.illegalConstructor();
    this.#socket = socket;
    this.#writer = socket.writable.getWriter();
    this.#reader = socket.readable.getReader();
    PromisePrototypeThen(this.#writer.closed, undefined, () => {});
    PromisePrototypeThen(this.#reader.closed, undefined, () => {});
  }

  get opened() {
    return this.#socket.opened;
  }

  get closed() {
    return this.#socket.closed;
  }

  // Resolves when the datagram is on its way to the host; whether it arrives nobody knows.
  send(data) {
    return new Promise((resolve) => {
      const bytes = toBytes(data);
      const length = TypedArrayPrototypeGetByteLength(bytes);
      if (length > MOST) throw new RangeError(`a datagram has at most ${MOST} bytes, not ${length}`);
      const frame = new Uint8Array(HEAD + length);
      frame[0] = length >> 8;
      frame[1] = length & 0xff;
      TypedArrayPrototypeSet(frame, bytes, HEAD);
      resolve(this.#writer.write(frame));
    });
  }

  // The next datagram; `done` when it is closed.
  async next() {
    for (;;) {
      const rest = this.#rest;
      const have = TypedArrayPrototypeGetByteLength(rest);
      if (have >= HEAD) {
        const length = rest[0] * 256 + rest[1];
        if (have >= HEAD + length) {
          this.#rest = TypedArrayPrototypeSubarray(rest, HEAD + length);
          return { done: false, value: TypedArrayPrototypeSlice(rest, HEAD, HEAD + length) };
        }
      }
      const { done, value } = await this.#reader.read();
      if (done) return { done: true, value: undefined };
      const more = new Uint8Array(have + TypedArrayPrototypeGetByteLength(value));
      TypedArrayPrototypeSet(more, rest, 0);
      TypedArrayPrototypeSet(more, value, have);
      this.#rest = more;
    }
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

return { datagram };
})();
