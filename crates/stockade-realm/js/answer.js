// Sends what a handler has answered: `http.response`, in as few steps as its body allows.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_guest_control,
  op_guest_respond,
  op_guest_respond_bytes,
} = core.ops;
const {
  ArrayPrototypePush,
  JSONStringify,
  ObjectPrototypeIsPrototypeOf,
  String,
  StringPrototypeToLowerCase,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypeError,
} = primordials;
const { InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const {
  getInnerResponse,
  responseBodyUsed,
  ResponsePrototype,
  SERVE_FAST_HEADER_CONTENT_TYPE,
  SERVE_FAST_HEADER_DEFAULT_TEXT,
  serveFastBodyKey,
  serveFastConsumedKey,
  serveFastContentTypeKey,
  serveFastHeaderKindKey,
  serveFastStatusKey,
  toInnerResponse,
  wireHeaderList,
} = core.loadExtScript("ext:deno_fetch/23_response.js");
const { streams } = core.loadExtScript("ext:stockade_realm/network.js");
const { markJson } = core.loadExtScript("ext:stockade_payload/payload.js");
const sockets = core.loadExtScript("ext:stockade_realm/sockets.js");
const targets = core.loadExtScript("ext:stockade_realm/targets.js");

// A body above this goes as a stream, so that a slow client does not hold all of it.
const INLINE_BYTES = 1024 * 1024;

const TEXT_HEADERS = '["Content-Type","text/plain;charset=UTF-8"]';

// Sends the response of the request `live.id`; throws where it cannot be sent, and then nothing was. True if
// its body goes on as a stream: `onDone` is called when that is over.
function send(live, response, pending, onDone) {
  const inner = checkResponse(response);
  const status = response[serveFastStatusKey];
  if (
    status !== 0 && response[serveFastBodyKey] !== null && inner.statusMessage === "" && !live.aborted
  ) {
    const headers = fastHeaders(response);
    if (sendStatic(live, status, headers, response[serveFastBodyKey], pending)) {
      response[serveFastConsumedKey] = true;
      return false;
    }
  }
  return sendGeneral(live, response, inner, pending, onDone);
}

function checkResponse(response) {
  if (!ObjectPrototypeIsPrototypeOf(ResponsePrototype, response)) {
    throw new TypeError(
      `fetch must return a Response or a promise of one, not ${describe(response)}`,
    );
  }
  const inner = getInnerResponse(response);
  if (inner === undefined) {
    throw new TypeError("fetch returned an object that only looks like a Response: use `new Response`");
  }
  if (inner.type === "error") {
    throw new TypeError(
      "fetch returned Response.error(), which stands for a network failure: " +
        "return a Response with a status, such as 502",
    );
  }
  if (responseBodyUsed(response)) {
    throw new TypeError(
      "fetch returned a Response whose body has been read already: return response.clone(), or a new Response",
    );
  }
  return inner;
}

function describe(value) {
  if (value === undefined) return "undefined (is a `return` missing?)";
  if (value === null) return "null";
  if (typeof value !== "object" && typeof value !== "function") {
    return `a ${typeof value}: wrap it, new Response(...)`;
  }
  return `${typeof value === "function" ? "a function" : "an object"}: wrap it, Response.json(...)`;
}

let lastType;
let lastTypeHeaders;

function fastHeaders(response) {
  switch (response[serveFastHeaderKindKey]) {
    case SERVE_FAST_HEADER_DEFAULT_TEXT:
      return TEXT_HEADERS;
    case SERVE_FAST_HEADER_CONTENT_TYPE: {
      const type = response[serveFastContentTypeKey];
      if (type !== lastType) {
        lastTypeHeaders = `["Content-Type",${JSONStringify(type)}]`;
        lastType = type;
      }
      return lastTypeHeaders;
    }
    default:
      return "[]";
  }
}

// Text and bytes in one message; false if they are too long for that.
function sendStatic(live, status, headers, body, pending) {
  if (typeof body === "string") {
    if (body.length > INLINE_BYTES) return false;
    op_guest_respond(live.id, status, headers, body, pending);
    return true;
  }
  if (
    TypedArrayPrototypeGetSymbolToStringTag(body) !== "Uint8Array" ||
    TypedArrayPrototypeGetByteLength(body) > INLINE_BYTES
  ) {
    return false;
  }
  op_guest_respond_bytes(live.id, status, headers, body, pending);
  return true;
}

// Every other response. Whether its body goes on as a stream.
function sendGeneral(live, response, inner, pending, onDone) {
  toInnerResponse(response);
  const { status, body } = inner;
  const flat = flatten(wireHeaderList(inner), inner.statusMessage);
  if (live.aborted) {
    // Nobody reads it; the host is only notified that the handler is done.
    body?.cancel(new TypeError("the client is gone"));
    sendHead(live, 204, "[]", "null", null, pending);
    return false;
  }
  if (status === 101) {
    const socket = sockets.attach(response);
    // Its handlers run after the answer: the host ends what they hold of other sites when it has closed.
    if (live.scope !== undefined) targets.retain(live.scope);
    sendHead(live, status, JSONStringify(flat), "null", socket.id, pending);
    socket.connected();
    return false;
  }
  if (body === null) {
    sendHead(live, status, JSONStringify(flat), "null", null, pending);
    return false;
  }
  let content = body.staticBody;
  if (content !== undefined) {
    if (sendStatic(live, status, JSONStringify(flat), content, pending)) {
      body.streamOrStatic.consumed = true;
      return false;
    }
    if (typeof content === "string") {
      // Its length in bytes is the client's to know.
      content = core.encode(content);
      body.streamOrStatic.consumed = true;
      const bytes = new InnerBody({ body: content, consumed: false });
      bytes.length = TypedArrayPrototypeGetByteLength(content);
      return sendStream(live, status, flat, bytes, pending, onDone);
    }
  }
  return sendStream(live, status, flat, body, pending, onDone);
}

function sendStream(live, status, flat, body, pending, onDone) {
  if (typeof body.length === "number" && !hasHeader(flat, "content-length")) {
    ArrayPrototypePush(flat, "Content-Length", String(body.length));
  }
  const headers = JSONStringify(flat);
  // A body that came from the host and was not touched need not come through here.
  const returned = streams.giveBack(body.stream);
  if (returned !== undefined) {
    sendHead(live, status, headers, markJson("h", returned), null, pending);
    return false;
  }
  const id = streams.exportStream(body.stream, onDone);
  sendHead(live, status, headers, markJson("s", id), null, pending);
  return true;
}

function sendHead(live, status, headers, body, socket, pending) {
  const text = `[${live.id},${status},${headers},${body},${socket},${pending}]`;
  op_guest_control("http.response", text, body !== "null");
}

// The text of the status stands in front of the headers, under a name that none of them can have.
function flatten(list, statusText) {
  const flat = statusText === "" ? [] : [":reason", statusText];
  for (let i = 0; i < list.length; i++) ArrayPrototypePush(flat, list[i][0], list[i][1]);
  return flat;
}

function hasHeader(flat, name) {
  for (let i = 0; i < flat.length; i += 2) {
    if (StringPrototypeToLowerCase(flat[i]) === name) return true;
  }
  return false;
}

return { send };
})();
