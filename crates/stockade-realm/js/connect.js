// `connect()` and `Socket`, as the modules "cloudflare:sockets" and "stockade:sockets" export them.
// https://developers.cloudflare.com/workers/runtime-apis/tcp-sockets/
//
// Invariant: an error of a connection rejects `opened`, where it is not open yet, and `closed`, and is what its streams
// fail with.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  Boolean,
  DataViewPrototypeGetBuffer,
  DataViewPrototypeGetByteLength,
  DataViewPrototypeGetByteOffset,
  MapPrototypeGet,
  MapPrototypeSet,
  Number,
  NumberIsInteger,
  ObjectGetOwnPropertyDescriptor,
  ObjectSetPrototypeOf,
  Promise,
  PromisePrototypeThen,
  PromiseResolve,
  ReflectApply,
  RegExpPrototypeExec,
  SafeMap,
  SafeRegExp,
  String,
  StringPrototypeIsWellFormed,
  StringPrototypeToLowerCase,
  SymbolAsyncDispose,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const {
  createReadableByteStream,
  ReadableByteStreamController,
  readableByteStreamControllerClose,
  readableByteStreamControllerEnqueue,
  readableByteStreamControllerError,
  readableByteStreamControllerRespond,
  WritableStream,
  WritableStreamDefaultController,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");
const pipes = core.loadExtScript("ext:stockade_realm/pipes.js");

const { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(
  ReadableByteStreamController.prototype,
  "byobRequest",
);
const { error: errorWritable } = WritableStreamDefaultController.prototype;

// `host:port`, the host maybe an IPv6 address in brackets.
const ADDRESS = new SafeRegExp("^(\\[[^\\]]*\\]|[^:]*):([0-9]{1,5})$");

const OFF = "off";
const ON = "on";
const START_TLS = "starttls";

// Hosts that stand for a binding: { binding, method }.
const doors = new SafeMap();

function noop() {}

// A view of what was written: the stream has it until the write is done.
function toBytes(chunk) {
  if (typeof chunk === "string") return core.encode(chunk);
  if (typeof chunk === "object" && chunk !== null) {
    if (core.isArrayBuffer(chunk)) return new Uint8Array(chunk);
    if (ArrayBufferIsView(chunk)) {
      return TypedArrayPrototypeGetSymbolToStringTag(chunk) === undefined
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
    }
  }
  throw new TypeError(`a socket takes bytes and texts, not ${chunk === null ? "null" : typeof chunk}`);
}

function sizeOf(chunk) {
  try {
    return TypedArrayPrototypeGetByteLength(toBytes(chunk));
  } catch {
    return 1;
  }
}

// A promise and what settles it; nobody has to handle its rejection.
function deferred() {
  let resolve;
  let reject;
  const promise = new Promise((onDone, onError) => {
    resolve = onDone;
    reject = onError;
  });
  PromisePrototypeThen(promise, undefined, noop);
  return { __proto__: null, promise, resolve, reject };
}

// The state of a socket, and the user of its pipe.
class Connection {
  constructor(options) {
    this.options = options;
    this.pipe = undefined;
    this.opened = deferred();
    this.closed = deferred();
    this.upgraded = false;
    // Closed by the guest, or taken over by the socket that `startTls` gave.
    this.given = false;
    this.cancel = undefined;
    // Of the readable end.
    this.input = undefined;
    this.wanted = undefined;
    this.discards = false;
    this.ended = false;
    // Of the writable end.
    this.output = undefined;
    this.writing = undefined;
    this.shut = false;
    this.failed = undefined;
    this.isOver = false;
    // What to call when TLS has started.
    this.next = undefined;
    this.readable = createReadableByteStream(
      (controller) => {
        this.input = controller;
      },
      () =>
        new Promise((resolve) => {
          this.wanted = resolve;
          give(this);
        }),
      () => {
        this.discards = true;
        give(this);
        return PromiseResolve(undefined);
      },
    );
    this.writable = makeWritable(this);
  }

  data() {
    give(this);
  }

  end() {
    this.ended = true;
    give(this);
    // While TLS is being started the host takes nothing but a close.
    if (this.options.allowHalfOpen || this.shut || this.given) return;
    this.shut = true;
    pipes.end(this.pipe);
  }

  secured() {
    const next = this.next;
    this.next = undefined;
    next?.();
  }

  over(error) {
    this.isOver = true;
    this.failed ??= error;
    give(this);
    if (this.next !== undefined) {
      // The socket that was to go on over TLS has the error.
      this.next(error ?? new TypeError("the connection was closed while TLS was being started"));
      this.next = undefined;
      return;
    }
    if (!this.shut || error !== undefined) {
      failWritable(this, error ?? new TypeError("the connection is closed"));
    }
    if (error === undefined) this.closed.resolve(undefined);
    else this.closed.reject(error);
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(Connection.prototype, null);

// Hands on what was received, as far as it is wanted.
function give(connection) {
  const { pipe, input } = connection;
  if (pipe !== undefined) {
    if (connection.discards || connection.given) {
      while (pipes.take(pipe) !== undefined);
    } else if (connection.wanted !== undefined) {
      const bytes = pipes.take(pipe);
      if (bytes !== undefined) {
        readableByteStreamControllerEnqueue(input, bytes);
        settle(connection);
        return;
      }
    }
    if (pipe.inbox.length > 0) return;
  }
  if (connection.discards) {
    settle(connection);
  } else if (connection.failed !== undefined) {
    connection.discards = true;
    readableByteStreamControllerError(input, connection.failed);
    settle(connection);
  } else if (connection.ended || connection.isOver || connection.given) {
    connection.discards = true;
    closeReadable(input);
    settle(connection);
  }
}

function settle(connection) {
  const done = connection.wanted;
  connection.wanted = undefined;
  done?.();
}

// Ends a stream; reads into a buffer that wait get it back empty.
function closeReadable(controller) {
  try {
    readableByteStreamControllerClose(controller);
    if (ReflectApply(byobRequestOf, controller, []) !== null) {
      readableByteStreamControllerRespond(controller, 0);
    }
  } catch {
    // The reader's buffer has elements of several bytes and the last one is not whole: it has the error.
  }
}

function failWritable(connection, error) {
  if (connection.output !== undefined) ReflectApply(errorWritable, connection.output, [error]);
}

function makeWritable(connection) {
  const { highWaterMark } = connection.options;
  const strategy = highWaterMark === undefined
    ? undefined
    : { __proto__: null, highWaterMark, size: sizeOf };
  return new WritableStream({
    __proto__: null,
    start(controller) {
      connection.output = controller;
      return connection.opened.promise;
    },
    write(chunk) {
      if (connection.shut) throw new TypeError("the other side has ended the connection");
      const sending = pipes.send(connection.pipe, toBytes(chunk));
      connection.writing = sending;
      return sending;
    },
    close() {
      if (connection.shut || connection.given) return;
      connection.shut = true;
      pipes.end(connection.pipe);
    },
    abort() {
      shutDown(connection);
    },
  }, strategy);
}

// Closes a connection that may not be open yet.
function shutDown(connection) {
  if (connection.given) return;
  connection.given = true;
  if (connection.pipe === undefined) {
    connection.cancel?.();
    const error = new TypeError("the socket was closed before it was open");
    if (!connection.isOver) fail(connection, error, undefined);
    return;
  }
  // What is being written goes before the close.
  const { pipe } = connection;
  const finish = () => pipes.close(pipe);
  if (pipe.rest === undefined) finish();
  else PromisePrototypeThen(connection.writing, finish, finish);
  connection.shut = true;
  failWritable(connection, new TypeError("the socket is closed"));
  give(connection);
}

// There is no connection. `closedWith`: what `closed` rejects with, where it does.
function fail(connection, error, closedWith) {
  connection.failed = closedWith;
  connection.isOver = true;
  connection.opened.reject(error);
  if (closedWith === undefined) connection.closed.resolve(undefined);
  else connection.closed.reject(closedWith);
  give(connection);
}

const ours = { __proto__: null };

class Socket {
  #connection;

  constructor(key, connection) {
    if (key !== ours) webidl.illegalConstructor();
    this.#connection = connection;
  }

  get readable() {
    return this.#connection.readable;
  }

  get writable() {
    return this.#connection.writable;
  }

  get opened() {
    return this.#connection.opened.promise;
  }

  get closed() {
    return this.#connection.closed.promise;
  }

  // Whether `startTls` has put another socket in the place of this one.
  get upgraded() {
    return this.#connection.upgraded;
  }

  get secureTransport() {
    return this.#connection.options.secureTransport;
  }

  get protocol() {
    return "tcp";
  }

  close() {
    shutDown(this.#connection);
    return this.#connection.closed.promise;
  }

  startTls(options = undefined) {
    return upgrade(this.#connection, options);
  }

  [SymbolAsyncDispose]() {
    return this.close();
  }
}
webidl.configureInterface(Socket);

// A socket on the same connection, whose bytes go through TLS. The one before it closes.
function upgrade(before, options) {
  if (before.options.secureTransport !== START_TLS) {
    throw new TypeError(
      `startTls() needs a socket that was opened with secureTransport "starttls", not "${before.options.secureTransport}"`,
    );
  }
  if (before.upgraded || before.given || before.isOver) {
    throw new TypeError("startTls() needs a socket that is open, and is called once");
  }
  const name = options?.expectedServerHostname ?? options?.servername ?? undefined;
  if (name !== undefined && (typeof name !== "string" || !StringPrototypeIsWellFormed(name))) {
    throw new TypeError("expectedServerHostname must be a host name");
  }
  before.upgraded = true;
  const connection = new Connection({
    __proto__: null,
    ...before.options,
    secureTransport: ON,
  });
  connection.cancel = () => {
    if (before.pipe === undefined) before.cancel?.();
    else pipes.close(before.pipe);
  };
  PromisePrototypeThen(before.opened.promise, (info) => {
    if (connection.isOver) return;
    const { pipe } = before;
    const begin = () => {
      before.given = true;
      before.next = (error) => {
        connection.cancel = undefined;
        if (error === undefined) before.closed.resolve(undefined);
        else before.closed.reject(error);
        if (connection.isOver) return;
        connection.pipe = pipe;
        pipe.user = connection;
        if (error === undefined) connection.opened.resolve(info);
        else fail(connection, error, error);
      };
      pipes.startTls(pipe, name);
      give(before);
      failWritable(before, new TypeError("the socket that startTls() gave has taken its place"));
    };
    if (pipe.isOver) fail(connection, before.failed ?? new TypeError("the connection is closed"), before.failed);
    else if (pipe.rest === undefined) begin();
    else PromisePrototypeThen(before.writing, begin, (error) => fail(connection, error, error));
  }, (error) => {
    if (!connection.isOver) fail(connection, error, error);
  });
  return new Socket(ours, connection);
}

// A socket on the connection that a request to the host opens.
function open(method, request, options) {
  const connection = new Connection(options);
  const opening = network.startRequest(method, trace.mark(request), (id) => {
    connection.cancel = () => network.cancelRequest(id);
  });
  PromisePrototypeThen(opening, (info) => begin(connection, info), (error) => {
    connection.cancel = undefined;
    if (!connection.isOver) fail(connection, error, error);
  });
  return new Socket(ours, connection);
}

function begin(connection, info) {
  connection.cancel = undefined;
  connection.pipe = new pipes.Pipe(info.id, connection);
  const { remoteAddress, localAddress } = info;
  connection.opened.resolve({ remoteAddress, localAddress });
}

// A connection of a client, which is open.
function accept(info, secure) {
  const options = { __proto__: null, secureTransport: secure ? ON : OFF, allowHalfOpen: true, highWaterMark: undefined };
  const connection = new Connection(options);
  begin(connection, info);
  return new Socket(ours, connection);
}

// `env.NAME.connect()` of a binding whose method opens a connection.
function openBinding(binding, method, args) {
  const request = { __proto__: null, binding, method, args };
  return open("binding.open", request, optionsOf(undefined));
}

// Has `connect()` of any of `hosts` ask a binding.
function addDoor(hosts, binding, method) {
  for (let i = 0; i < hosts.length; i++) {
    MapPrototypeSet(doors, StringPrototypeToLowerCase(hosts[i]), { __proto__: null, binding, method });
  }
}

function addressOf(address) {
  let hostname;
  let port;
  if (typeof address === "string") {
    const found = RegExpPrototypeExec(ADDRESS, address);
    if (found === null) {
      throw new TypeError(`"${address}" is not an address: its form is "host:port" or { hostname, port }`);
    }
    hostname = found[1];
    port = Number(found[2]);
  } else if (typeof address === "object" && address !== null) {
    hostname = String(address.hostname);
    port = Number(address.port);
  } else {
    throw new TypeError('an address is "host:port" or { hostname, port }');
  }
  if (hostname === "" || !StringPrototypeIsWellFormed(hostname)) {
    throw new TypeError("an address has a host name");
  }
  if (!NumberIsInteger(port) || port < 1 || port > 65535) {
    throw new TypeError(`the port of an address is from 1 to 65535, not ${String(port)}`);
  }
  return { __proto__: null, hostname, port };
}

function optionsOf(options) {
  const secureTransport = options?.secureTransport ?? OFF;
  if (secureTransport !== OFF && secureTransport !== ON && secureTransport !== START_TLS) {
    throw new TypeError(
      `secureTransport is "off", "on" or "starttls", not ${
        typeof secureTransport === "string" ? `"${secureTransport}"` : typeof secureTransport
      }`,
    );
  }
  const mark = options?.highWaterMark ?? undefined;
  const highWaterMark = mark === undefined ? undefined : Number(mark);
  if (highWaterMark !== undefined && !(highWaterMark >= 0)) {
    throw new TypeError("highWaterMark is a number of bytes");
  }
  return {
    __proto__: null,
    secureTransport,
    allowHalfOpen: Boolean(options?.allowHalfOpen),
    highWaterMark,
  };
}

function connect(address, options = undefined) {
  const { hostname, port } = addressOf(address);
  const read = optionsOf(options);
  const door = MapPrototypeGet(doors, StringPrototypeToLowerCase(hostname));
  if (door !== undefined) {
    const { binding, method } = door;
    if (read.secureTransport === ON) {
      const connection = new Connection(read);
      const error = new TypeError(
        `${hostname} stands for env.${binding}, whose connections have no TLS of the guest's: they do not leave the machine, `
          + 'and the host speaks TLS to the server. fix: secureTransport: "off"',
      );
      fail(connection, error, error);
      return new Socket(ours, connection);
    }
    return open("binding.open", { __proto__: null, binding, method, args: [] }, read);
  }
  const given = options?.expectedServerHostname ?? options?.servername ?? undefined;
  const serverName = given === undefined ? undefined : String(given);
  const secure = read.secureTransport;
  return open("socket.connect", { __proto__: null, host: hostname, port, secure, serverName }, read);
}

// The stream of datagrams with an address.
function openDatagrams(address) {
  const { hostname, port } = addressOf(address);
  const request = { __proto__: null, host: hostname, port, secure: OFF, protocol: "udp" };
  return open("socket.connect", request, optionsOf(undefined));
}

return { accept, addDoor, connect, openBinding, openDatagrams, toBytes };
})();
