// `WebSocket`: every socket lives in the host; events carry what happens.
//
// Guest to host, as events: ws.open { conn_id, url, protocols }, ws.send { conn_id, data },
// ws.close { conn_id, code, reason }. Host to guest, as the event `__ws_event`:
// { conn_id, event_type: "open" | "message" | "close" | "error", data }.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypePush,
  DataViewPrototypeGetBuffer,
  DataViewPrototypeGetByteLength,
  DataViewPrototypeGetByteOffset,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperties,
  ObjectPrototypeIsPrototypeOf,
  PromisePrototypeThen,
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
  ErrorEvent,
  Event,
  EventTarget,
  MessageEvent,
  setIsTrusted,
} = core.loadExtScript("ext:deno_web/02_event.js");
const { Blob, BlobPrototype } = core.loadExtScript("ext:deno_web/09_file.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

// RFC 6455 section 7.1.5 and 7.4.1
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

function syntaxError(message) {
  return new DOMException(message, "SyntaxError");
}

function checkProtocols(value) {
  const list = value === undefined ? [] : ArrayIsArray(value) ? value : [String(value)];
  const seen = new SafeSet();
  const protocols = [];
  for (let i = 0; i < list.length; i++) {
    const protocol = String(list[i]);
    if (RegExpPrototypeExec(TOKEN, protocol) === null) {
      throw syntaxError(`'${protocol}' is not a WebSocket subprotocol`);
    }
    const key = StringPrototypeToLowerCase(protocol);
    if (SetPrototypeHas(seen, key)) throw syntaxError(`subprotocol '${protocol}' is given twice`);
    SetPrototypeAdd(seen, key);
    ArrayPrototypePush(protocols, protocol);
  }
  return protocols;
}

class WebSocket extends EventTarget {
  constructor(url, protocols = undefined) {
    super();
    webidl.requiredArguments(arguments.length, 1, "Failed to construct 'WebSocket'");
    this[webidl.brand] = webidl.brand;
    let parsed;
    try {
      parsed = new URL(webidl.converters.USVString(url));
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
    const list = checkProtocols(protocols);
    this[_id] = nextId++;
    this[_url] = parsed.href;
    this[_state] = CONNECTING;
    this[_protocol] = "";
    this[_binaryType] = "blob";
    this[_buffered] = 0;
    MapPrototypeSet(sockets, this[_id], this);
    network.send("ws.open", {
      __proto__: null,
      conn_id: this[_id],
      url: this[_url],
      protocols: list,
    });
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

  // Data goes to the host at once; only a Blob still being read is waiting.
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
    if (this[_state] !== OPEN) return;
    if (ObjectPrototypeIsPrototypeOf(BlobPrototype, data)) {
      const size = data.size;
      this[_buffered] += size;
      PromisePrototypeThen(data.bytes(), (bytes) => {
        this[_buffered] -= size;
        if (this[_state] === OPEN) sendData(this, bytes);
      });
    } else {
      sendData(this, toData(data));
    }
  }

  close(code = undefined, reason = undefined) {
    webidl.assertBranded(this, WebSocketPrototype);
    if (code !== undefined) {
      code = webidl.converters["unsigned short"](code, undefined, undefined, { clamp: true });
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
    network.send("ws.close", {
      __proto__: null,
      conn_id: this[_id],
      code: code ?? 1000,
      reason: reason ?? "",
    });
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

function sendData(socket, data) {
  network.send("ws.send", { __proto__: null, conn_id: socket[_id], data });
}

function trusted(event) {
  setIsTrusted(event, true);
  return event;
}

function finish(socket, code, reason, wasClean) {
  if (socket[_state] === CLOSED) return;
  socket[_state] = CLOSED;
  MapPrototypeDelete(sockets, socket[_id]);
  socket.dispatchEvent(trusted(new CloseEvent("close", { code, reason, wasClean })));
}

function receive(message) {
  const socket = MapPrototypeGet(sockets, message?.conn_id);
  if (socket === undefined) return;
  const data = message.data;
  switch (message.event_type) {
    case "open":
      if (socket[_state] !== CONNECTING) return;
      socket[_state] = OPEN;
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
      socket.dispatchEvent(trusted(new MessageEvent("message", { data: content, origin })));
      break;
    }
    case "error": {
      const text = typeof data === "string" ? data : String(data?.message ?? "WebSocket error");
      socket.dispatchEvent(trusted(new ErrorEvent("error", { message: text })));
      finish(socket, ABNORMAL, "", false);
      break;
    }
    case "close":
      finish(
        socket,
        data?.code ?? message.code ?? NO_STATUS,
        String(data?.reason ?? message.reason ?? ""),
        data?.wasClean ?? true,
      );
      break;
  }
}

MapPrototypeSet(network.internal, "__ws_event", receive);

return { toData, WebSocket };
})();
