// `fetch`: a call is the host request `fetch`; the classes are the platform's own. A binding to another site
// is the same with a request of its own. What lies in the isolate itself, `data:` and `blob:`, is answered
// here (`schemes.js`).
//
// Invariant: the body of an answer that the guest does not get is cancelled: its owner has room for few.

(function () {
const { core, internals, primordials } = __bootstrap;
const {
  ArrayPrototypeFind,
  ArrayPrototypePush,
  Error,
  ErrorPrototype,
  ObjectHasOwn,
  ObjectKeys,
  ObjectPrototypeIsPrototypeOf,
  Promise,
  PromisePrototypeThen,
  ReflectOwnKeys,
  SafeFinalizationRegistry,
  SafeSet,
  SafeSetIterator,
  SafeWeakRef,
  SafeWeakSet,
  SetPrototypeHas,
  String,
  StringPrototypeToWellFormed,
  SymbolFor,
  SymbolPrototypeGetDescription,
  TypeError,
  WeakRefPrototypeDeref,
  WeakSetPrototypeAdd,
  WeakSetPrototypeHas,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { Headers } = core.loadExtScript("ext:deno_fetch/20_headers.js");
const { extractBody, InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { Request, toInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { fromInnerResponse, newInnerResponse, nullBodyStatus } = core.loadExtScript(
  "ext:deno_fetch/23_response.js",
);
const abort = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const integrity = core.loadExtScript("ext:stockade_realm/integrity.js");
const schemes = core.loadExtScript("ext:stockade_realm/schemes.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");
const { streams } = network;

// https://fetch.spec.whatwg.org/#http-redirect-fetch, step 7
const MAX_REDIRECTS = 20;

const METHODS_WITHOUT_BODY = new SafeSet(["GET", "HEAD"]);
const REDIRECTS = new SafeSet([301, 302, 303, 307, 308]);

// What says something about a body, and goes with it: https://fetch.spec.whatwg.org/#request-body-header-name
const HEADERS_OF_BODY = [
  "content-type",
  "content-length",
  "content-encoding",
  "content-language",
  "content-location",
];

// What is for one origin and not for the next one.
const HEADERS_OF_ORIGIN = ["authorization", "proxy-authorization", "cookie"];

// The signal of a request, `undefined` if there is none yet.
const { getCachedAbortSignal } = internals;

// Where a signal has those that it follows.
const SOURCES = ArrayPrototypeFind(
  ReflectOwnKeys(abort.newSignal()),
  (key) => typeof key === "symbol" && SymbolPrototypeGetDescription(key) === "[[sourceSignals]]",
);

// Where a stream has the function that fails it.
const CONTROLLER_ERROR = SymbolFor("nodejs.webstream.controllerErrorFunction");

function fetch(input, init = undefined) {
  return fetchBy(askHost, arguments.length, input, init);
}

function askHost(url, method, headers, body, redirect, onId, here) {
  return network.startRequest(
    "fetch",
    trace.mark({ __proto__: null, url, method, headers, body, redirect }),
    onId,
    here,
  );
}

// `send` makes one request of the host and gives its answer.
function fetchBy(send, count, input, init) {
  // Recording a stack costs about a microsecond, so that the request below takes this one.
  const here = new Error();
  // An async function would look up `then` on the guest's Promise; this one does not.
  return new Promise((resolve, reject) => {
    webidl.requiredArguments(count, 1, "Failed to execute 'fetch'");
    const request = new Request(input, init);
    const signal = getCachedAbortSignal(request);
    const call = {
      __proto__: null,
      send,
      request,
      signal,
      here,
      // A client that leaves is the host's to notice; any other signal must reach the body.
      keepsBody: signal !== undefined && !isClients(signal),
      id: undefined,
      fail: undefined,
      // The stream that the request sends, and the one of an answer that is read here.
      sends: undefined,
      reads: undefined,
    };
    if (signal !== undefined && signal.aborted) {
      discardBody(toInnerRequest(request).body);
      throw signal.reason;
    }
    let open = true;
    const finish = () => {
      open = false;
      if (signal !== undefined) signal[abort.remove](onAbort);
    };
    const giveUp = (error) => {
      if (!open) return;
      finish();
      if (call.id !== undefined) network.cancelRequest(call.id);
      if (call.reads !== undefined) failBody(call.reads, error);
      stopSending(call, error);
      reject(error);
    };
    const onAbort = () => giveUp(signal.reason);
    call.fail = (error) => giveUp(bodyFailed(request.url, error));
    if (signal !== undefined) signal[abort.add](onAbort);
    PromisePrototypeThen(
      run(call),
      (inner) => {
        if (!open) {
          discardBody(inner.body);
          return;
        }
        finish();
        if (signal !== undefined) bind(call, inner);
        resolve(fromInnerResponse(inner, "immutable"));
      },
      (error) => {
        if (!open) return;
        finish();
        if (ObjectPrototypeIsPrototypeOf(ErrorPrototype, error)) network.placeError(error, here);
        stopSending(call, error);
        reject(error);
      },
    );
  });
}

const clients = new SafeWeakSet();

// Takes note of the signal of a request that a client has made.
function noteClient(request) {
  WeakSetPrototypeAdd(clients, getCachedAbortSignal(request));
}

// Whether a signal aborts with that of a client's request and for no other reason.
function isClients(signal) {
  if (WeakSetPrototypeHas(clients, signal)) return true;
  const sources = signal[SOURCES];
  if (sources === null) return false;
  for (const source of new SafeSetIterator(sources)) {
    const found = WeakRefPrototypeDeref(source);
    if (found !== undefined && !WeakSetPrototypeHas(clients, found)) return false;
  }
  return true;
}

function bodyFailed(url, error) {
  return new TypeError(`fetch of ${url} failed: its body cannot be read`, {
    __proto__: null,
    cause: error,
  });
}

async function run(call) {
  const { send, request } = call;
  const inner = toInnerRequest(request);
  if (send === askHost) {
    const local = schemes.answer(inner);
    if (local !== undefined) return await complete(call, local);
  }
  const urls = [request.url];
  let { method } = inner;
  const headers = headerObject(request.headers);
  let body = await requestBody(call, inner, headers);
  const replayable = !streams.isStream(body);
  for (;;) {
    const url = urls[urls.length - 1];
    const answer = await send(
      url,
      method,
      headers,
      body,
      inner.redirectMode,
      (id) => call.id = id,
      call.here,
    );
    call.id = undefined;
    let next;
    try {
      if (isAborted(call)) throw call.signal.reason;
      const { status, location } = readAnswer(answer);
      if (
        !SetPrototypeHas(REDIRECTS, status) || location === null || inner.redirectMode === "manual"
      ) {
        return await complete(call, makeResponse(answer, urls));
      }
      next = redirected(inner, urls, location);
      if (
        (status === 303 && !SetPrototypeHas(METHODS_WITHOUT_BODY, method)) ||
        ((status === 301 || status === 302) && method === "POST")
      ) {
        method = "GET";
        body = null;
        for (let i = 0; i < HEADERS_OF_BODY.length; i++) delete headers[HEADERS_OF_BODY[i]];
      } else if (!replayable && body !== null) {
        throw new TypeError(`fetch of ${url} was redirected, and its body is a stream, which cannot be sent again`);
      }
    } catch (error) {
      discard(answer);
      throw error;
    }
    discard(answer);
    if (next.origin !== new URL(url).origin) {
      for (let i = 0; i < HEADERS_OF_ORIGIN.length; i++) delete headers[HEADERS_OF_ORIGIN[i]];
    }
    ArrayPrototypePush(urls, next.href);
  }
}

function isAborted(call) {
  return call.signal !== undefined && call.signal.aborted;
}

// Where a redirect leads. https://fetch.spec.whatwg.org/#http-redirect-fetch
function redirected(inner, urls, location) {
  const url = urls[urls.length - 1];
  if (inner.redirectMode === "error") {
    throw new TypeError(`fetch of ${url} was redirected, and redirect is 'error'`);
  }
  if (urls.length > MAX_REDIRECTS) {
    throw new TypeError(`fetch of ${urls[0]} was redirected more than ${MAX_REDIRECTS} times`);
  }
  let next;
  try {
    next = new URL(location, url);
  } catch {
    throw new TypeError(`fetch of ${url} was redirected to '${location}', which is not a URL`);
  }
  if (next.protocol !== "http:" && next.protocol !== "https:") {
    throw new TypeError(`fetch of ${url} was redirected to ${next.protocol}, not http: or https:`);
  }
  if (next.hash === "") next.hash = new URL(url).hash;
  return next;
}

// Text stays text, as scripts of the ancestor expect; other bodies are bytes, streams are streams.
async function requestBody(call, inner, headers) {
  const { body } = inner;
  if (body === null) return null;
  const content = body.streamOrStatic;
  if (body.source === null && streams.isStream(content)) {
    if (typeof body.length === "number" && !ObjectHasOwn(headers, "content-length")) {
      headers["content-length"] = String(body.length);
    }
    streams.guard(content, call.fail);
    call.sends = content;
    return content;
  }
  const given = await body.consume();
  return typeof given === "string" ? StringPrototypeToWellFormed(given) : given;
}

function headerObject(headers) {
  const object = { __proto__: null };
  headers.forEach((value, name) => {
    object[name] = value;
  });
  return object;
}

// The status of what the host answered, and where a redirect would lead.
function readAnswer(answer) {
  if (typeof answer !== "object" || answer === null) {
    throw new TypeError("the host's answer to 'fetch' must be an object { status, headers, body }");
  }
  const status = answer.status ?? 200;
  if (typeof status !== "number" || !(status >= 200 && status <= 599)) {
    throw new TypeError(`the host answered 'fetch' with the status ${String(status)}`);
  }
  const location = SetPrototypeHas(REDIRECTS, status)
    ? headersOf(answer).get("location")
    : null;
  return { __proto__: null, status, location };
}

function headersOf(answer) {
  const headers = new Headers();
  const given = answer.headers ?? { __proto__: null };
  const names = ObjectKeys(given);
  for (let i = 0; i < names.length; i++) {
    // An array of pairs or an object; a list of values is several headers.
    const entry = given[names[i]];
    const pair = names[i] === String(i) && typeof entry === "object" && entry !== null;
    const name = pair ? String(entry[0]) : names[i];
    const value = pair ? entry[1] : entry;
    if (typeof value === "object" && value !== null && typeof value.length === "number") {
      for (let j = 0; j < value.length; j++) headers.append(name, String(value[j]));
    } else {
      headers.append(name, String(value));
    }
  }
  return headers;
}

function makeResponse(answer, urls) {
  const status = answer.status ?? 200;
  const inner = newInnerResponse(status, String(answer.statusText ?? ""));
  inner.type = "basic";
  for (let i = 0; i < urls.length; i++) ArrayPrototypePush(inner.urlList, urls[i]);
  headersOf(answer).forEach((value, name) => {
    ArrayPrototypePush(inner.headerList, [name, value]);
  });
  if (answer.body === null || answer.body === undefined) return inner;
  if (nullBodyStatus(status)) {
    discard(answer);
    return inner;
  }
  const text = typeof answer.body === "string" || typeof answer.body === "object"
    ? answer.body
    : String(answer.body);
  inner.body = extractBody(text).body;
  return inner;
}

// The inner response that the guest gets.
async function complete(call, inner) {
  const wanted = toInnerRequest(call.request).integrity;
  if (typeof wanted === "string" && wanted !== "") {
    const { body } = inner;
    if (body !== null && streams.isStream(body.streamOrStatic)) call.reads = body.streamOrStatic;
    const content = body === null ? "" : await body.consume();
    call.reads = undefined;
    const bytes = typeof content === "string" ? core.encode(content) : content;
    await integrity.check(bytes, wanted, call.request.url);
    if (body !== null) inner.body = new InnerBody({ __proto__: null, body: bytes, consumed: false });
  }
  return inner;
}

// Nobody reads any more what the request sends.
function stopSending(call, reason) {
  if (call.sends !== undefined) streams.stop(call.sends, reason);
}

// The body of an answer that nobody reads.
function discard(answer) {
  if (typeof answer === "object" && answer !== null && streams.isStream(answer.body)) {
    streams.discard(answer.body);
  }
}

function discardBody(body) {
  if (body !== null && streams.isStream(body.streamOrStatic)) streams.discard(body.streamOrStatic);
}

// ---- An abort after the head ----

const unbind = new SafeFinalizationRegistry((remove) => remove());

// From here on the signal fails the body: https://fetch.spec.whatwg.org/#abort-fetch. The signal does not hold
// the body, and lives as long as it.
function bind(call, inner) {
  const { signal } = call;
  const { body } = inner;
  if (body === null) return;
  const content = body.streamOrStatic;
  const isStream = streams.isStream(content);
  if (isStream && call.keepsBody) streams.keep(content);
  const holder = isStream ? content : body;
  const held = new SafeWeakRef(holder);
  const onAbort = () => {
    const found = WeakRefPrototypeDeref(held);
    if (found !== undefined) failBody(found, signal.reason);
  };
  signal[abort.add](onAbort);
  unbind.register(holder, () => signal[abort.remove](onAbort));
}

// Of a stream, or of a body that is there as a whole.
function failBody(holder, reason) {
  if (streams.isStream(holder)) {
    if (!streams.abort(holder, reason)) holder[CONTROLLER_ERROR](reason);
  } else if (!holder.unusable()) {
    holder.stream[CONTROLLER_ERROR](reason);
  }
}

return { fetch, fetchBy, noteClient };
})();
