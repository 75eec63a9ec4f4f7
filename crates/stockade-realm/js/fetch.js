// `fetch`: every call is the host request `fetch`; the classes are the platform's own. A binding to
// another site is the same with a request of its own.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayPrototypePush,
  ObjectKeys,
  ObjectPrototypeIsPrototypeOf,
  Promise,
  PromisePrototypeThen,
  SafeSet,
  SetPrototypeHas,
  String,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { URL, URLSearchParamsPrototype } = core.loadExtScript("ext:deno_web/00_url.js");
const { Headers } = core.loadExtScript("ext:deno_fetch/20_headers.js");
const { extractBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { Request, toInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { fromInnerResponse, newInnerResponse, nullBodyStatus, redirectStatus } = core.loadExtScript(
  "ext:deno_fetch/23_response.js",
);
const { ReadableStreamPrototype } = core.loadExtScript("ext:deno_web/06_streams.js");
const abort = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");

// https://fetch.spec.whatwg.org/#http-redirect-fetch, step 7
const MAX_REDIRECTS = 20;

const METHODS_WITHOUT_BODY = new SafeSet(["GET", "HEAD"]);

function fetch(input, init = undefined) {
  return fetchBy(exchange, arguments.length, input, init);
}

function exchange(url, method, headers, body, redirect, onId) {
  return network.startRequest(
    "fetch",
    { __proto__: null, url, method, headers, body, redirect },
    onId,
  );
}

// `exchange` makes one request of the host and gives its answer.
function fetchBy(exchange, count, input, init) {
  // An async function would look up `then` on the guest's Promise; this one does not.
  return new Promise((resolve, reject) => {
    webidl.requiredArguments(count, 1, "Failed to execute 'fetch'");
    const request = new Request(input, init);
    const signal = request.signal;
    if (signal.aborted) throw signal.reason;
    let requestId;
    const onAbort = () => {
      if (requestId !== undefined) network.cancelRequest(requestId);
      reject(signal.reason);
    };
    signal[abort.add](onAbort);
    const settle = (finish) => (value) => {
      signal[abort.remove](onAbort);
      finish(value);
    };
    PromisePrototypeThen(
      run(exchange, request, init?.body, (id) => requestId = id),
      settle(resolve),
      settle(reject),
    );
  });
}

async function run(exchange, request, givenBody, onId) {
  const urls = [request.url];
  let method = request.method;
  let body = await requestBody(request, givenBody);
  const replayable = typeof body === "string" || body === null;
  const headers = headerObject(request.headers);
  for (;;) {
    const url = urls[urls.length - 1];
    const answer = await exchange(url, method, headers, body, request.redirect, onId);
    const response = makeResponse(answer, urls);
    if (!SetPrototypeHas(redirects, response.status)) return response;
    const location = response.headers.get("location");
    if (location === null || request.redirect === "manual") return response;
    if (request.redirect === "error") {
      throw new TypeError(`fetch of ${url} was redirected, and redirect is 'error'`);
    }
    if (urls.length > MAX_REDIRECTS) {
      throw new TypeError(`fetch of ${urls[0]} was redirected more than ${MAX_REDIRECTS} times`);
    }
    const next = new URL(location, url);
    if (next.protocol !== "http:" && next.protocol !== "https:") {
      throw new TypeError(`fetch of ${url} was redirected to ${next.protocol}, not http: or https:`);
    }
    const status = response.status;
    if (
      (status === 303 && !SetPrototypeHas(METHODS_WITHOUT_BODY, method)) ||
      ((status === 301 || status === 302) && method === "POST")
    ) {
      method = "GET";
      body = null;
      delete headers["content-type"];
      delete headers["content-length"];
      delete headers["content-encoding"];
      delete headers["content-language"];
      delete headers["content-location"];
    } else if (!replayable) {
      throw new TypeError(`fetch of ${url} was redirected, and its body cannot be sent again`);
    }
    if (next.origin !== new URL(url).origin) {
      delete headers["authorization"];
      delete headers["cookie"];
    }
    ArrayPrototypePush(urls, next.href);
  }
}

const redirects = new SafeSet([301, 302, 303, 307, 308]);

// Text stays text, as scripts of the ancestor expect; other bodies are bytes, streams are streams.
async function requestBody(request, given) {
  const inner = toInnerRequest(request).body;
  if (inner === null) return null;
  if (typeof given === "string" || ObjectPrototypeIsPrototypeOf(URLSearchParamsPrototype, given)) {
    return await request.text();
  }
  if (ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, given)) return request.body;
  // Of a request that is passed on: one that has no source came as a stream.
  if (
    given === undefined && inner.source === null &&
    ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, inner.streamOrStatic)
  ) {
    return request.body;
  }
  return await request.bytes();
}

function headerObject(headers) {
  const object = { __proto__: null };
  headers.forEach((value, name) => {
    object[name] = value;
  });
  return object;
}

function makeResponse(answer, urls) {
  if (typeof answer !== "object" || answer === null) {
    throw new TypeError("the host's answer to 'fetch' must be an object { status, headers, body }");
  }
  const status = answer.status ?? 200;
  if (typeof status !== "number" || !(status >= 200 && status <= 599)) {
    throw new TypeError(`the host answered 'fetch' with the status ${String(status)}`);
  }
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
  const inner = newInnerResponse(status, String(answer.statusText ?? ""));
  inner.type = "basic";
  for (let i = 0; i < urls.length; i++) ArrayPrototypePush(inner.urlList, urls[i]);
  if (answer.body !== null && answer.body !== undefined && !nullBodyStatus(status)) {
    const text = typeof answer.body === "string" || typeof answer.body === "object"
      ? answer.body
      : String(answer.body);
    inner.body = extractBody(text).body;
  }
  headers.forEach((value, name) => {
    ArrayPrototypePush(inner.headerList, [name, value]);
  });
  return fromInnerResponse(inner, "immutable");
}

return { fetch, fetchBy };
})();
