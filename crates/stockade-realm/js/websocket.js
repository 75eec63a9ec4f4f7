// `WebSocket`: every socket lives in the host; events carry what happens.
//
// Guest to host, as events: ws.open { conn_id, url, protocols }, ws.send { conn_id, data },
// ws.close { conn_id, code, reason }, without `code` where the close frame is to have none. Host to guest, as the
// event `__ws_event`: { conn_id, event_type: "open" | "message" | "close" | "error", data }. "error" is the end of
// a socket: no "close" needs to follow.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayPrototypePush,
  ArrayPrototypeShift,
  DataViewPrototypeGetBuffer,
  DataViewPrototypeGetByteLength,
  DataViewPrototypeGetByteOffset,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperties,
  ObjectDefineProperty,
  ObjectGetOwnPropertyDescriptor,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  PromisePrototypeThen,
  PromiseResolve,
  ReflectApply,
  RegExpPrototypeExec,
  SafeMap,
  SafeRegExp,
  SafeSet,
  SetPrototypeAdd,
  SetPrototypeHas,
  String,
  StringPrototypeEndsWith,
  StringPrototypeToLowerCase,
  Symbol,
  SymbolIterator,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypedArrayPrototypeSlice,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const {
  CloseEvent,
  defineEventHandler,
  Event,
  EventTarget,
  MessageEvent,
  reportException,
  setIsTrusted,
} = core.loadExtScript("ext:deno_web/02_event.js");
const { Blob, BlobPrototype } = core.loadExtScript("ext:deno_web/09_file.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

// RFC 6455 section 7.1.5 and 7.4.1
const NORMAL = 1000;
const NO_STATUS = 1005;
const ABNORMAL = 1006;
// RFC 6455 section 5.5: a close frame holds at most 123 bytes of reason
const MAX_REASON_BYTES = 123;
// RFC 2616 section 2.2, which RFC 6455 section 4.1 names for subprotocols
const TOKEN = new SafeRegExp("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$");

const sockets = new SafeMap(); // conn_id -> WebSocket
let nextId = 1;

const _id = Symbol("id");
const _url = Symbol("url");
const _state = Symbol("readyState");
const _protocol = Symbol("protocol");
const _binaryType = Symbol("binaryType");
const _buffered = Symbol("bufferedAmount");
const _sent = Symbol("sent, and still counted as buffered");
const _opened = Symbol("was open");
const _order = Symbol("order of what is sent");

// Found here and not on the class, where a guest may put something else.
const { bytes: bytesOfBlob } = BlobPrototype;
const { get: getBlobSize } = ObjectGetOwnPropertyDescriptor(BlobPrototype, "size");

function isBlob(data) {
  return ObjectPrototypeIsPrototypeOf(BlobPrototype, data);
}

function blobSize(blob) {
  return ReflectApply(getBlobSize, blob, []);
}

// Keeps what a socket says in its order while the bytes of a Blob are still being read. `say` takes each item;
// of an item with a `blob` when its `data` is there, or else `lose` does: it cannot be read.
class Order {
  constructor(say, lose) {
    this.say = say;
    this.lose = lose;
    this.waiting = [];
  }

  add(item) {
    if (item.blob === undefined && this.waiting.length === 0) {
      this.say(item);
      return;
    }
    ArrayPrototypePush(this.waiting, item);
    if (this.waiting.length === 1) read(this, item);
  }

  // Forgets what waits.
  clear() {
    this.waiting = [];
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(Order.prototype, null);

// One Blob at a time: what is read is held until it is its turn.
function read(order, item) {
  const { waiting } = order;
  PromisePrototypeThen(ReflectApply(bytesOfBlob, item.blob, []), (bytes) => {
    item.data = bytes;
    advance(order, waiting);
  }, (error) => {
    reportException(error);
    advance(order, waiting);
  });
}

// The first item has been read, if it can be. Says it and all that follow it up to the next Blob.
function advance(order, waiting) {
  while (order.waiting === waiting && waiting.length > 0) {
    const item = ArrayPrototypeShift(waiting);
    if (item.blob !== undefined && item.data === undefined) {
      order.lose(item);
    } else {
      try {
        order.say(item);
      } catch (error) {
        reportException(error);
      }
    }
    if (waiting.length > 0 && waiting[0].blob !== undefined) {
      read(order, waiting[0]);
      return;
    }
  }
}

function syntaxError(message) {
  return new DOMException(message, "SyntaxError");
}

// `(DOMString or sequence<DOMString>)`
function toProtocols(value, prefix) {
  if (value === undefined) return [];
  if (webidl.type(value) === "Object" && value[SymbolIterator] !== undefined) {
    return webidl.converters["sequence<DOMString>"](value, prefix, "Argument 2");
  }
  return [webidl.converters.DOMString(value, prefix, "Argument 2")];
}

function checkProtocols(list) {
  const seen = new SafeSet();
  for (let i = 0; i < list.length; i++) {
    const protocol = list[i];
    if (RegExpPrototypeExec(TOKEN, protocol) === null) {
      throw syntaxError(`'${protocol}' is not a WebSocket subprotocol`);
    }
    const key = StringPrototypeToLowerCase(protocol);
    if (SetPrototypeHas(seen, key)) throw syntaxError(`subprotocol '${protocol}' is given twice`);
    SetPrototypeAdd(seen, key);
  }
}

class WebSocket extends EventTarget {
  constructor(url, protocols = undefined) {
    super();
    const prefix = "Failed to construct 'WebSocket'";
    webidl.requiredArguments(arguments.length, 1, prefix);
    this[webidl.brand] = webidl.brand;
    url = webidl.converters.USVString(url, prefix, "Argument 1");
    const list = toProtocols(protocols, prefix);
    let parsed;
    try {
      parsed = new URL(url);
    } catch (error) {
      throw syntaxError(error.message);
    }
    if (parsed.protocol === "http:") parsed.protocol = "ws:";
    else if (parsed.protocol === "https:") parsed.protocol = "wss:";
    if (parsed.protocol !== "ws:" && parsed.protocol !== "wss:") {
      throw syntaxError(`a WebSocket's URL must be ws: or wss:, not ${parsed.protocol}`);
    }
    if (parsed.hash !== "" || StringPrototypeEndsWith(parsed.href, "#")) {
      throw syntaxError("a WebSocket's URL must have no fragment");
    }
    checkProtocols(list);
    this[_id] = nextId++;
    this[_url] = parsed.href;
    this[_state] = CONNECTING;
    this[_protocol] = "";
    this[_binaryType] = "blob";
    this[_buffered] = 0;
    this[_sent] = 0;
    this[_opened] = false;
    this[_order] = new Order((item) => say(this, item), (item) => this[_buffered] -= item.size);
    MapPrototypeSet(sockets, this[_id], this);
    network.send("ws.open", trace.mark({
      __proto__: null,
      conn_id: this[_id],
      url: this[_url],
      protocols: list,
    }));
  }

  get url() {
    webidl.assertBranded(this, WebSocketPrototype);
    return this[_url];
  }

  get readyState() {
    webidl.assertBranded(this, WebSocketPrototype);
    return this[_state];
  }

  get protocol() {
    webidl.assertBranded(this, WebSocketPrototype);
    return this[_protocol];
  }

  get extensions() {
    webidl.assertBranded(this, WebSocketPrototype);
    return "";
  }

  // Bytes given to `send`, except those that have gone to the host before this turn of the guest's code.
  get bufferedAmount() {
    webidl.assertBranded(this, WebSocketPrototype);
    return this[_buffered];
  }

  get binaryType() {
    webidl.assertBranded(this, WebSocketPrototype);
    return this[_binaryType];
  }

  set binaryType(value) {
    webidl.assertBranded(this, WebSocketPrototype);
    if (value === "blob" || value === "arraybuffer") this[_binaryType] = value;
  }

  send(data) {
    webidl.assertBranded(this, WebSocketPrototype);
    webidl.requiredArguments(arguments.length, 1, "Failed to execute 'send' on 'WebSocket'");
    if (this[_state] === CONNECTING) {
      throw new DOMException("the WebSocket is not open yet", "InvalidStateError");
    }
    const item = isBlob(data)
      ? { __proto__: null, blob: data, data: undefined, size: blobSize(data) }
      : { __proto__: null, blob: undefined, data: toData(data), size: 0 };
    if (item.blob === undefined) item.size = byteLength(item.data);
    this[_buffered] += item.size;
    if (this[_state] !== OPEN) return;
    try {
      this[_order].add(item);
    } catch (error) {
      this[_buffered] -= item.size;
      throw error;
    }
  }

  close(code = undefined, reason = undefined) {
    webidl.assertBranded(this, WebSocketPrototype);
    if (code !== undefined) {
      code = webidl.converters["unsigned short"](code, undefined, undefined, { __proto__: null, clamp: true });
      if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
        throw new DOMException(
          `a WebSocket's close code must be 1000 or from 3000 to 4999, not ${code}`,
          "InvalidAccessError",
        );
      }
    }
    if (reason !== undefined) {
      reason = webidl.converters.USVString(reason);
      if (TypedArrayPrototypeGetByteLength(core.encode(reason)) > MAX_REASON_BYTES) {
        throw syntaxError(`a WebSocket's close reason has at most ${MAX_REASON_BYTES} bytes`);
      }
    }
    if (this[_state] === CLOSING || this[_state] === CLOSED) return;
    this[_state] = CLOSING;
    reason ??= "";
    // A close frame has no reason without a code.
    if (reason !== "") code ??= NORMAL;
    this[_order].add({ __proto__: null, close: true, blob: undefined, code, reason });
  }
}

const constant = (value) => ({ __proto__: null, value, enumerable: true });
const constants = {
  __proto__: null,
  CONNECTING: constant(CONNECTING),
  OPEN: constant(OPEN),
  CLOSING: constant(CLOSING),
  CLOSED: constant(CLOSED),
};
ObjectDefineProperties(WebSocket, constants);
ObjectDefineProperties(WebSocket.prototype, constants);
defineEventHandler(WebSocket.prototype, "open");
defineEventHandler(WebSocket.prototype, "message");
defineEventHandler(WebSocket.prototype, "error");
defineEventHandler(WebSocket.prototype, "close");
webidl.configureInterface(WebSocket);
const WebSocketPrototype = WebSocket.prototype;

function toData(data) {
  if (typeof data === "object" && data !== null) {
    if (ArrayBufferIsView(data)) {
      const view = TypedArrayPrototypeGetSymbolToStringTag(data) === undefined
        ? new Uint8Array(
          DataViewPrototypeGetBuffer(data),
          DataViewPrototypeGetByteOffset(data),
          DataViewPrototypeGetByteLength(data),
        )
        : new Uint8Array(
          TypedArrayPrototypeGetBuffer(data),
          TypedArrayPrototypeGetByteOffset(data),
          TypedArrayPrototypeGetByteLength(data),
        );
      return TypedArrayPrototypeSlice(view);
    }
    if (core.isArrayBuffer(data)) return new Uint8Array(data);
  }
  return webidl.converters.USVString(data);
}

function byteLength(data) {
  return TypedArrayPrototypeGetByteLength(typeof data === "string" ? core.encode(data) : data);
}

// What comes here is in its order: data, and at last a close.
function say(socket, item) {
  if (socket[_state] === CLOSED) return;
  if (item.close === true) {
    const { code, reason } = item;
    network.send("ws.close", { __proto__: null, conn_id: socket[_id], code, reason });
    return;
  }
  network.send("ws.send", { __proto__: null, conn_id: socket[_id], data: item.data });
  if (socket[_sent] === 0 && item.size > 0) {
    PromisePrototypeThen(PromiseResolve(undefined), () => {
      socket[_buffered] -= socket[_sent];
      socket[_sent] = 0;
    });
  }
  socket[_sent] += item.size;
}

function trusted(event) {
  setIsTrusted(event, true);
  return event;
}

// `failure`: why the connection failed, where it did.
function finish(socket, code, reason, wasClean, failure) {
  if (socket[_state] === CLOSED) return;
  socket[_state] = CLOSED;
  socket[_order].clear();
  MapPrototypeDelete(sockets, socket[_id]);
  if (!socket[_opened]) {
    // Closed before it was open, it has failed.
    failure ??= "the WebSocket was closed before it was open";
    code = ABNORMAL;
    wasClean = false;
  }
  if (failure !== undefined) {
    const event = trusted(new Event("error"));
    // Not a part of the standard, which keeps causes from pages: this guest's host says what it wants to.
    ObjectDefineProperty(event, "message", {
      __proto__: null,
      value: failure,
      configurable: true,
      enumerable: true,
      writable: true,
    });
    socket.dispatchEvent(event);
  }
  socket.dispatchEvent(trusted(new CloseEvent("close", { __proto__: null, code, reason, wasClean })));
}

function receive(message) {
  const socket = MapPrototypeGet(sockets, message?.conn_id);
  if (socket === undefined) return;
  const data = message.data;
  switch (message.event_type) {
    case "open":
      if (socket[_state] !== CONNECTING) return;
      socket[_state] = OPEN;
      socket[_opened] = true;
      socket[_protocol] = String(data?.protocol ?? "");
      socket.dispatchEvent(trusted(new Event("open")));
      break;
    case "message": {
      if (socket[_state] !== OPEN) return;
      let content = data;
      if (ArrayBufferIsView(data)) {
        content = socket[_binaryType] === "blob"
          ? new Blob([data])
          : TypedArrayPrototypeGetBuffer(TypedArrayPrototypeSlice(data));
      }
      const origin = new URL(socket[_url]).origin;
      socket.dispatchEvent(trusted(new MessageEvent("message", { __proto__: null, data: content, origin })));
      break;
    }
    case "error": {
      const text = typeof data === "string" ? data : String(data?.message ?? "WebSocket error");
      finish(socket, ABNORMAL, socket[_opened] ? "" : text, false, text);
      break;
    }
    case "close":
      finish(
        socket,
        data?.code ?? message.code ?? NO_STATUS,
        String(data?.reason ?? message.reason ?? ""),
        data?.wasClean ?? true,
        undefined,
      );
      break;
  }
}

MapPrototypeSet(network.internal, "__ws_event", receive);

return { blobSize, isBlob, Order, toData, WebSocket };
})();
