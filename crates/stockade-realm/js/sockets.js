// WebSockets of clients: `WebSocketPair`, one end for the answer of status 101, one for the handler.
//
// Control messages in both directions, `id` named by the guest in its response:
//   socket.message { id, data }, socket.close { id, code, reason }, socket.credit { id, n }
// Each side may have `CREDIT` messages on their way; `socket.credit` says how many more. A close of the guest is
// answered by the host with the client's.
//
// Invariant: what waits for a client that does not read is bounded.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayPrototypePush,
  ArrayPrototypeShift,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperties,
  ObjectDefineProperty,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  PromisePrototypeThen,
  PromiseResolve,
  SafeMap,
  SafeWeakMap,
  String,
  Symbol,
  SymbolIterator,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeSlice,
  TypeError,
  WeakMapPrototypeGet,
  WeakMapPrototypeSet,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const {
  CloseEvent,
  defineEventHandler,
  EventTarget,
  MessageEvent,
  setIsTrusted,
} = core.loadExtScript("ext:deno_web/02_event.js");
const { Blob } = core.loadExtScript("ext:deno_web/09_file.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const { blobSize, isBlob, Order, toData, WebSocket } = core.loadExtScript("ext:stockade_realm/websocket.js");

const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

// RFC 6455 section 7.4.1
const NORMAL = 1000;
const NO_STATUS = 1005;
const ABNORMAL = 1006;
// RFC 6455 section 5.5: a close frame holds at most 123 bytes of reason
const MAX_REASON_BYTES = 123;

const CREDIT = 64;
const CREDIT_STEP = 32;

// What may wait to be sent over one socket.
const MAX_WAITING_BYTES = 16 * 1024 * 1024;
const MAX_WAITING_MESSAGES = 65536;

const connected = new SafeMap(); // id -> End: the handler's end of a client's socket
const byResponse = new SafeWeakMap(); // Response -> client end
let nextId = 1;

const _end = Symbol("end");

// The state of one end of a pair.
class End {
  constructor(socket) {
    this.socket = socket;
    this.peer = undefined;
    this.state = OPEN;
    this.accepted = false;
    // Handed over in a response: no longer the guest's to use.
    this.given = false;
    this.binaryType = "arraybuffer";
    // What has come before `accept`, and its bytes where they come from the other end.
    this.inbox = [];
    this.inboxBytes = 0;
    this.scheduled = false;
    // Of the handler's end of a client's socket.
    this.id = undefined;
    this.credit = CREDIT;
    this.consumed = 0;
    this.outbox = [];
    // Of the outbox, and of Blobs that are still read and what was sent behind them.
    this.waitingBytes = 0;
    this.order = new Order((item) => say(this, item), (item) => this.waitingBytes -= item.size);
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(End.prototype, null);

class PairedSocket extends EventTarget {
  constructor(key) {
    if (key !== ours) webidl.illegalConstructor();
    super();
    this[webidl.brand] = webidl.brand;
    this[_end] = new End(this);
  }

  accept() {
    const end = usable(this, "accept");
    if (end.accepted) return;
    end.accepted = true;
    schedule(end);
  }

  send(data) {
    const prefix = "Failed to execute 'send' on 'WebSocket'";
    const end = usable(this, "send");
    webidl.requiredArguments(arguments.length, 1, prefix);
    if (!end.accepted) {
      throw new DOMException("call accept() on this WebSocket before send()", "InvalidStateError");
    }
    if (end.state !== OPEN) return;
    const blob = isBlob(data) ? data : undefined;
    const content = blob === undefined ? toData(data) : undefined;
    if (blob === undefined && end.order.waiting.length === 0) {
      transmit(end, content);
      return;
    }
    const size = blob === undefined ? sizeOf(content) : blobSize(blob);
    checkOrderRoom(end, size);
    end.waitingBytes += size;
    end.order.add({ __proto__: null, blob, data: content, size });
  }

  close(code = undefined, reason = undefined) {
    const end = usable(this, "close");
    if (code !== undefined) {
      code = webidl.converters["unsigned short"](code, undefined, undefined, { __proto__: null, clamp: true });
      if (!maySay(code)) {
        throw new DOMException(
          `a WebSocket's close code must be 1000 to 1014 but not 1004 to 1006, or from 3000 to 4999, not ${code}`,
          "InvalidAccessError",
        );
      }
    }
    reason = reason === undefined ? "" : webidl.converters.USVString(reason);
    if (TypedArrayPrototypeGetByteLength(core.encode(reason)) > MAX_REASON_BYTES) {
      throw new DOMException(
        `a WebSocket's close reason has at most ${MAX_REASON_BYTES} bytes`,
        "SyntaxError",
      );
    }
    if (end.state !== OPEN) return;
    end.state = CLOSING;
    // A close frame has no reason without a code.
    code ??= reason === "" ? NO_STATUS : NORMAL;
    end.order.add({ __proto__: null, close: true, blob: undefined, code, reason });
  }

  get readyState() {
    return own(this).state;
  }

  get url() {
    own(this);
    return null;
  }

  get protocol() {
    own(this);
    return "";
  }

  get extensions() {
    own(this);
    return "";
  }

  get bufferedAmount() {
    return own(this).waitingBytes;
  }

  get binaryType() {
    return own(this).binaryType;
  }

  set binaryType(value) {
    if (value === "blob" || value === "arraybuffer") own(this).binaryType = value;
  }
}

const ours = { __proto__: null };
defineEventHandler(PairedSocket.prototype, "open");
defineEventHandler(PairedSocket.prototype, "message");
defineEventHandler(PairedSocket.prototype, "error");
defineEventHandler(PairedSocket.prototype, "close");
webidl.configureInterface(PairedSocket);
// To a guest it is a `WebSocket`: the class behind it cannot be named.
ObjectSetPrototypeOf(PairedSocket.prototype, WebSocket.prototype);
ObjectDefineProperties(PairedSocket.prototype, {
  constructor: { __proto__: null, value: WebSocket, writable: true, configurable: true },
});
const PairedSocketPrototype = PairedSocket.prototype;

class WebSocketPair {
  constructor() {
    const client = new PairedSocket(ours);
    const server = new PairedSocket(ours);
    client[_end].peer = server[_end];
    server[_end].peer = client[_end];
    for (let i = 0; i < 2; i++) {
      ObjectDefineProperty(this, i, {
        __proto__: null,
        value: i === 0 ? client : server,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
  }

  *[SymbolIterator]() {
    yield this[0];
    yield this[1];
  }
}
webidl.configureInterface(WebSocketPair);

function own(socket) {
  const end = ObjectPrototypeIsPrototypeOf(PairedSocketPrototype, socket) ? socket[_end] : undefined;
  if (end === undefined) throw new TypeError("Illegal invocation");
  return end;
}

function usable(socket, what) {
  const end = own(socket);
  if (end.given) {
    throw new TypeError(
      `cannot ${what}: this end of the WebSocketPair went to the client with a Response; use the other`,
    );
  }
  return end;
}

// RFC 6455 section 7.4: what an endpoint may put into a close frame.
function maySay(code) {
  return (code >= 1000 && code <= 1014 && !(code >= 1004 && code <= 1006)) ||
    (code >= 3000 && code <= 4999);
}

function sizeOf(data) {
  return typeof data === "string" ? data.length : TypedArrayPrototypeGetByteLength(data);
}

// ---- What an end says ----

// What comes here is in its order: data, and at last a close.
function say(end, item) {
  if (item.close === true) {
    transmitClose(end, item.code, item.reason);
    return;
  }
  end.waitingBytes -= item.size;
  transmit(end, item.data);
}

function transmit(end, data) {
  if (end.id === undefined) {
    const size = sizeOf(data);
    checkRoom(end.peer.inbox.length, end.peer.inboxBytes + size);
    end.peer.inboxBytes += size;
    ArrayPrototypePush(end.peer.inbox, { __proto__: null, data });
    schedule(end.peer);
    return;
  }
  if (end.credit > 0 && end.outbox.length === 0) {
    end.credit--;
    network.control("socket.message", { __proto__: null, id: end.id, data });
    return;
  }
  const size = sizeOf(data);
  checkRoom(end.outbox.length, end.waitingBytes + size);
  end.waitingBytes += size;
  ArrayPrototypePush(end.outbox, { __proto__: null, data });
}

function checkRoom(messages, bytes) {
  if (messages >= MAX_WAITING_MESSAGES || bytes > MAX_WAITING_BYTES) {
    throw new TypeError(
      `the WebSocket's reader is too slow: at most ${MAX_WAITING_MESSAGES} messages and ` +
        `${MAX_WAITING_BYTES} bytes may wait (see bufferedAmount); send less, or close it`,
    );
  }
}

// What waits for its place in the order counts as if it had it, so that there is room for it then.
function checkOrderRoom(end, size) {
  const { waiting } = end.order;
  if (end.id === undefined) {
    const { inbox, inboxBytes } = end.peer;
    checkRoom(inbox.length + waiting.length, inboxBytes + end.waitingBytes + size);
  } else {
    checkRoom(end.outbox.length + waiting.length, end.waitingBytes + size);
  }
}

function transmitClose(end, code, reason) {
  const message = { __proto__: null, close: true, code, reason };
  if (end.id === undefined) {
    ArrayPrototypePush(end.peer.inbox, message);
    schedule(end.peer);
  } else if (end.outbox.length === 0) {
    sendClose(end, code, reason);
  } else {
    ArrayPrototypePush(end.outbox, message);
  }
}

function sendClose(end, code, reason) {
  if (code === NO_STATUS) code = undefined;
  network.control("socket.close", { __proto__: null, id: end.id, code, reason });
}

function flush(end) {
  while (end.outbox.length > 0) {
    const message = end.outbox[0];
    if (message.close === true) {
      ArrayPrototypeShift(end.outbox);
      sendClose(end, message.code, message.reason);
      return;
    }
    if (end.credit === 0) return;
    ArrayPrototypeShift(end.outbox);
    end.credit--;
    end.waitingBytes -= sizeOf(message.data);
    network.control("socket.message", { __proto__: null, id: end.id, data: message.data });
  }
}

// ---- What an end receives ----

// Never within the call that caused it: handlers may be added after `accept`, and may answer each other.
function schedule(end) {
  if (end.scheduled || !end.accepted || end.inbox.length === 0) return;
  end.scheduled = true;
  PromisePrototypeThen(PromiseResolve(undefined), () => {
    end.scheduled = false;
    deliver(end);
  });
}

function deliver(end) {
  while (end.accepted && end.inbox.length > 0) {
    const message = ArrayPrototypeShift(end.inbox);
    if (message.close === true) {
      finish(end, message.code, message.reason, message.code !== ABNORMAL);
      return;
    }
    if (end.id === undefined) end.inboxBytes -= sizeOf(message.data);
    receive(end, message.data);
  }
}

function receive(end, data) {
  if (end.id !== undefined) consumed(end);
  if (end.state !== OPEN) return;
  let content = data;
  if (ArrayBufferIsView(data)) {
    content = end.binaryType === "blob"
      ? new Blob([data])
      : TypedArrayPrototypeGetBuffer(TypedArrayPrototypeSlice(data));
  }
  end.socket.dispatchEvent(trusted(new MessageEvent("message", { __proto__: null, data: content })));
}

function consumed(end) {
  end.consumed++;
  if (end.consumed < CREDIT_STEP) return;
  network.control("socket.credit", { __proto__: null, id: end.id, n: end.consumed });
  end.consumed = 0;
}

function finish(end, code, reason, wasClean) {
  if (end.state === CLOSED) return;
  const answers = end.state === OPEN && end.id === undefined;
  end.state = CLOSED;
  end.order.clear();
  end.outbox = [];
  end.waitingBytes = 0;
  if (end.id !== undefined) MapPrototypeDelete(connected, end.id);
  // Within the isolate the closing handshake is ours; a client's is the host's.
  if (answers) transmitClose(end, code, reason);
  end.socket.dispatchEvent(trusted(new CloseEvent("close", { __proto__: null, code, reason, wasClean })));
}

function trusted(event) {
  setIsTrusted(event, true);
  return event;
}

// ---- Responses ----

// `new Response(null, { status: 101, webSocket })`
function hand(response, socket) {
  if (!ObjectPrototypeIsPrototypeOf(PairedSocketPrototype, socket)) {
    throw new TypeError("webSocket must be one end of a WebSocketPair");
  }
  if (response.status !== 101) {
    throw new TypeError(`a Response with a webSocket must have the status 101, not ${response.status}`);
  }
  WeakMapPrototypeSet(byResponse, response, socket);
}

function handed(response) {
  return WeakMapPrototypeGet(byResponse, response) ?? null;
}

// The response is about to be sent. Gives the socket's id, and what to do once it has been.
function attach(response) {
  const socket = WeakMapPrototypeGet(byResponse, response);
  if (socket === undefined) {
    throw new TypeError(
      "a Response of status 101 needs a webSocket: new Response(null, { status: 101, webSocket: client }), " +
        "where client is one end of a WebSocketPair",
    );
  }
  const client = socket[_end];
  if (client.given || client.accepted) {
    throw new TypeError(
      "the webSocket of the Response is in use: it was accepted, or went to another client",
    );
  }
  const server = client.peer;
  client.given = true;
  server.id = nextId++;
  MapPrototypeSet(connected, server.id, server);
  return {
    __proto__: null,
    id: server.id,
    connected() {
      // What the handler has said before.
      server.outbox = client.inbox;
      server.waitingBytes += client.inboxBytes;
      client.inbox = [];
      client.inboxBytes = 0;
      flush(server);
    },
  };
}

function configure() {
  MapPrototypeSet(network.controls, "socket.message", (message) => {
    const end = MapPrototypeGet(connected, message.id);
    if (end === undefined) return;
    if (end.accepted && end.inbox.length === 0) {
      receive(end, message.data);
    } else {
      ArrayPrototypePush(end.inbox, { __proto__: null, data: message.data });
    }
  });
  MapPrototypeSet(network.controls, "socket.close", (message) => {
    const end = MapPrototypeGet(connected, message.id);
    if (end === undefined) return;
    const code = message.code ?? NO_STATUS;
    const reason = String(message.reason ?? "");
    if (end.accepted && end.inbox.length === 0) {
      finish(end, code, reason, code !== ABNORMAL);
    } else {
      ArrayPrototypePush(end.inbox, { __proto__: null, close: true, code, reason });
    }
  });
  MapPrototypeSet(network.controls, "socket.credit", (message) => {
    const end = MapPrototypeGet(connected, message.id);
    if (end === undefined) return;
    end.credit += message.n;
    flush(end);
  });
}

return { attach, configure, hand, handed, WebSocketPair };
})();
