// Serve mode: the default export of the guest's module answers what the host hands over.
//
// Control messages, host to guest:
//   http.request [id, method, url, [name, value, …], body, cf], http.abort [id]
//   cron.run [id, cron, scheduledTime]
// Guest to host:
//   serve.ready { handlers, exports } or serve.failed { name, message, stack }, once
//   http.response [id, status, [name, value, …], body, socket, pending]
//   http.failed [id, name, message, stack]
//   http.settled [id]: after `pending`, all that `waitUntil` was given is done
//   cron.done [id, null or a message]
// `sockets.js` says what is said about WebSockets.
//
// Invariant: a handler's exception or bad answer is answered for that request alone.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_guest_control,
  op_guest_failed,
  op_guest_respond,
  op_guest_respond_bytes,
  op_guest_uncaught,
} = core.ops;
const {
  ArrayPrototypeFilter,
  ArrayPrototypeJoin,
  ArrayPrototypePush,
  JSONStringify,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperty,
  ObjectFreeze,
  ObjectGetOwnPropertyDescriptor,
  ObjectGetPrototypeOf,
  ObjectHasOwn,
  ObjectKeys,
  ObjectPrototype,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  Promise,
  PromisePrototypeThen,
  PromiseResolve,
  ReflectApply,
  ReflectConstruct,
  SafeArrayIterator,
  SafeMap,
  SafeSet,
  SetPrototypeHas,
  String,
  StringPrototypeToLowerCase,
  SymbolFor,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { abortRequest, fromInnerRequest, RequestPrototype, toInnerRequest } = core.loadExtScript(
  "ext:deno_fetch/23_request.js",
);
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
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const bindings = core.loadExtScript("ext:stockade_realm/bindings.js");
const sockets = core.loadExtScript("ext:stockade_realm/sockets.js");
const { control, controls, streams } = network;

// Keys of `env` that are between the two runtimes. No key of a user begins with U+0000.
const SERVE = "\0serve";
const BINDINGS = "\0bindings";

// A body as large as this goes as a stream, so that a slow client does not hold all of it.
const INLINE_BYTES = 1024 * 1024;

// What the host may have on its way of one stream: chunks, and bytes of a chunk.
const CHUNKS_AHEAD = 8;
const CHUNK_BYTES = 128 * 1024;

// Names of exports that are listed to the host.
const MAX_NAMES = 100;

// What other sites cannot call by name.
const RESERVED = new SafeSet(["constructor", "fetch", "scheduled", "then"]);

const HANDLERS = ["fetch", "scheduled"];

// Begins with the name by which libraries tell that handlers have the form of Workers.
const USER_AGENT = "Cloudflare-Workers (compatible; Stockade)";

const FORM =
  "export default { async fetch(request, env, ctx) { return new Response('hello'); } }";

const TEXT_HEADERS = '["Content-Type","text/plain;charset=UTF-8"]';

let serving = false;
let env;
let site; // what answers, once the module has been evaluated
let failed; // why there is none: { name, message, stack }
let waiting = []; // messages that came before the module had been evaluated
const lives = new SafeMap(); // id -> Live

// ---- One request ----

// What the runtime keeps of a request that it has not done with.
class Live {
  constructor(id, settled) {
    this.id = id;
    this.request = undefined;
    this.aborted = false;
    // Promises given to `waitUntil` that are still open, and what to do when none is.
    this.open = 0;
    this.settled = settled;
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(Live.prototype, null);

const ours = { __proto__: null };

class ExecutionContext {
  #live;

  constructor(key, live) {
    if (key !== ours) webidl.illegalConstructor();
    this.#live = live;
  }

  waitUntil(promise) {
    const live = this.#live;
    webidl.requiredArguments(arguments.length, 1, "Failed to execute 'waitUntil'");
    live.open++;
    const done = () => {
      live.open--;
      if (live.open === 0) live.settled?.(live);
    };
    PromisePrototypeThen(PromiseResolve(promise), done, (error) => {
      op_guest_uncaught(error, true);
      done();
    });
  }

  passThroughOnException() {}

  get props() {
    return NO_PROPS;
  }
}
webidl.configureInterface(ExecutionContext);
const NO_PROPS = ObjectFreeze({ __proto__: ObjectPrototype });

// The inner request of the fetch classes, made of what the host sent, with nothing taken apart before
// it is asked for.
class Incoming {
  constructor(method, url, flatHeaders, body, cf) {
    this.method = method;
    this.address = url;
    this.flatHeaders = flatHeaders;
    this.headers = null;
    this.body = body;
    this.cf = cf;
    // A handler that passes a request on wants the redirect itself.
    this.redirectMode = "manual";
    this.redirectCount = 0;
    this.clientRid = null;
    this.blobUrlEntry = null;
  }

  url() {
    return this.address;
  }

  currentUrl() {
    return this.address;
  }

  get headerList() {
    if (this.headers === null) {
      const flat = this.flatHeaders;
      const list = [];
      for (let i = 0; i + 1 < flat.length; i += 2) ArrayPrototypePush(list, [flat[i], flat[i + 1]]);
      this.headers = list;
    }
    return this.headers;
  }
}

ObjectSetPrototypeOf(Incoming.prototype, null);

function incomingBody(given) {
  if (given === null || given === undefined) return null;
  if (typeof given === "string") return new InnerBody({ body: given, consumed: false });
  if (streams.isStream(given)) return new InnerBody(given);
  const body = new InnerBody({ body: given, consumed: false });
  body.length = TypedArrayPrototypeGetByteLength(given);
  return body;
}

function onRequest(message) {
  if (site === undefined) {
    if (failed === undefined) {
      ArrayPrototypePush(waiting, () => onRequest(message));
    } else {
      refuse("http.failed", message[0]);
    }
    return;
  }
  const live = new Live(message[0], undefined);
  MapPrototypeSet(lives, live.id, live);
  let result;
  try {
    if (site.fetch === undefined) {
      throw new TypeError(`the module's default export has no fetch handler. Its form is: ${FORM}`);
    }
    const inner = new Incoming(
      message[1],
      message[2],
      message[3],
      incomingBody(message[4]),
      message[5],
    );
    const request = fromInnerRequest(inner, "immutable");
    live.request = request;
    const ctx = new ExecutionContext(ours, live);
    if (site.entrypoint === undefined) {
      result = ReflectApply(site.fetch, site.target, [request, env, ctx]);
    } else {
      const target = new site.entrypoint(ctx, env);
      result = target.fetch(request);
    }
  } catch (error) {
    fail(live, error);
    return;
  }
  then(result, (response) => respond(live, response), (error) => fail(live, error));
}

// Waits for whatever a guest's function gave; a value goes on at once.
function then(value, done, failed) {
  if (core.isPromise(value)) {
    PromisePrototypeThen(value, done, failed);
  } else if (isThenable(value)) {
    PromisePrototypeThen(new Promise((resolve) => resolve(value)), done, failed);
  } else {
    done(value);
  }
}

function isThenable(value) {
  try {
    return typeof value === "object" && value !== null && typeof value.then === "function";
  } catch {
    return false;
  }
}

function onAbort(message) {
  const live = MapPrototypeGet(lives, message[0]);
  if (live === undefined || live.aborted) return;
  live.aborted = true;
  if (live.request !== undefined) abortRequest(live.request);
}

function forget(live) {
  MapPrototypeDelete(lives, live.id);
}

// ---- The answer ----

function fail(live, error) {
  forget(live);
  op_guest_failed(live.id, error);
}

function refuse(name, id) {
  control(name, [id, failed.name, failed.message, failed.stack]);
}

function respond(live, response) {
  let stream;
  try {
    const inner = checkResponse(response);
    const pending = live.open > 0;
    if (pending) live.settled = settled;
    const status = response[serveFastStatusKey];
    if (status !== 0 && response[serveFastBodyKey] !== null && !live.aborted) {
      const headers = fastHeaders(response);
      if (sendStatic(live, status, headers, response[serveFastBodyKey], pending)) {
        response[serveFastConsumedKey] = true;
        forget(live);
        return;
      }
    }
    stream = sendGeneral(live, response, inner, pending);
  } catch (error) {
    live.settled = undefined;
    fail(live, error);
    return;
  }
  if (stream === undefined) forget(live);
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
    throw new TypeError("fetch returned Response.error(), which stands for a network failure: return a Response with a status, such as 502");
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
    return `a ${typeof value}: wrap it, new Response(…)`;
  }
  return `${typeof value === "function" ? "a function" : "an object"}: wrap it, Response.json(…)`;
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

// Every other response. Gives the id of its stream, if it has one.
function sendGeneral(live, response, inner, pending) {
  toInnerResponse(response);
  const { status, body } = inner;
  const flat = flatten(wireHeaderList(inner));
  if (live.aborted) {
    // Nobody reads it; the host only hears that the handler is done.
    body?.cancel(new TypeError("the client is gone"));
    sendHead(live, 204, "[]", "null", null, pending);
    return undefined;
  }
  if (status === 101) {
    const socket = sockets.attach(response);
    sendHead(live, status, JSONStringify(flat), "null", socket.id, pending);
    socket.connected();
    return undefined;
  }
  if (body === null) {
    sendHead(live, status, JSONStringify(flat), "null", null, pending);
    return undefined;
  }
  let content = body.streamOrStatic?.body;
  if (content !== undefined) {
    if (sendStatic(live, status, JSONStringify(flat), content, pending)) {
      body.streamOrStatic.consumed = true;
      return undefined;
    }
    if (typeof content === "string") {
      // Its length in bytes is the client's to know.
      content = core.encode(content);
      body.streamOrStatic.consumed = true;
      const bytes = new InnerBody({ body: content, consumed: false });
      bytes.length = TypedArrayPrototypeGetByteLength(content);
      return sendStream(live, status, flat, bytes, pending);
    }
  }
  return sendStream(live, status, flat, body, pending);
}

function sendStream(live, status, flat, body, pending) {
  if (typeof body.length === "number" && !hasHeader(flat, "content-length")) {
    ArrayPrototypePush(flat, "Content-Length", String(body.length));
  }
  const headers = JSONStringify(flat);
  const id = streams.exportStream(body.stream, () => forget(live));
  sendHead(live, status, headers, `"\\u0000s${id}"`, null, pending);
  return id;
}

function sendHead(live, status, headers, body, socket, pending) {
  const text = `[${live.id},${status},${headers},${body},${socket},${pending}]`;
  op_guest_control("http.response", text, body !== "null");
}

function flatten(list) {
  const flat = [];
  for (let i = 0; i < list.length; i++) ArrayPrototypePush(flat, list[i][0], list[i][1]);
  return flat;
}

function hasHeader(flat, name) {
  for (let i = 0; i < flat.length; i += 2) {
    if (StringPrototypeToLowerCase(flat[i]) === name) return true;
  }
  return false;
}

function settled(live) {
  control("http.settled", [live.id]);
}

// ---- Schedules ----

class ScheduledController {
  #cron;
  #time;

  constructor(key, cron, time) {
    if (key !== ours) webidl.illegalConstructor();
    this.#cron = cron;
    this.#time = time;
  }

  get cron() {
    return this.#cron;
  }

  get scheduledTime() {
    return this.#time;
  }

  get type() {
    return "scheduled";
  }

  noRetry() {}
}
webidl.configureInterface(ScheduledController);

function onCron(message) {
  const id = message[0];
  if (site === undefined) {
    if (failed === undefined) ArrayPrototypePush(waiting, () => onCron(message));
    else control("cron.done", [id, failed.message]);
    return;
  }
  const live = new Live(id, undefined);
  let error = null;
  const finish = () => {
    if (live.open > 0) {
      live.settled = finish;
      return;
    }
    live.settled = undefined;
    control("cron.done", [id, error]);
  };
  const fails = (thrown) => {
    op_guest_uncaught(thrown, true);
    error = messageOf(thrown);
    finish();
  };
  let result;
  try {
    if (site.scheduled === undefined) {
      throw new TypeError("the module's default export has no scheduled handler");
    }
    const controller = new ScheduledController(ours, message[1], message[2]);
    const ctx = new ExecutionContext(ours, live);
    if (site.entrypoint === undefined) {
      result = ReflectApply(site.scheduled, site.target, [controller, env, ctx]);
    } else {
      const target = new site.entrypoint(ctx, env);
      result = target.scheduled(controller);
    }
  } catch (thrown) {
    fails(thrown);
    return;
  }
  then(result, finish, fails);
}

function messageOf(error) {
  try {
    return String(error?.message ?? error);
  } catch {
    return "unknown reason";
  }
}

// ---- The module ----

// The base class of a default export that is a class: an object of it answers one request.
class WorkerEntrypoint {
  constructor(ctx, env) {
    this.ctx = ctx;
    this.env = env;
  }
}
const WorkerEntrypointPrototype = WorkerEntrypoint.prototype;

// The module has been evaluated.
function main(namespace) {
  if (!serving) return;
  try {
    const names = ObjectKeys(namespace);
    const found = findSite(namespace, names);
    const handlers = [];
    for (const name of new SafeArrayIterator(HANDLERS)) {
      if (found[name] !== undefined) ArrayPrototypePush(handlers, name);
    }
    if (names.length > MAX_NAMES) names.length = MAX_NAMES;
    control("serve.ready", { __proto__: null, handlers, exports: names });
    site = found;
    dispatchWaiting();
  } catch (error) {
    let name = "Error";
    let stack;
    try {
      name = String(error.name);
      stack = String(error.stack);
    } catch {
      // A getter of the guest's.
    }
    mainFailed(name, messageOf(error), stack);
  }
}

function findSite(namespace, names) {
  const form = `a site is an ES module of the form: ${FORM}`;
  if (!ObjectHasOwn(namespace, "default") || namespace.default === undefined) {
    const others = ArrayPrototypeFilter(names, (name) => name !== "default");
    const seen = others.length === 0 ? "nothing" : ArrayPrototypeJoin(others, ", ");
    throw new TypeError(`the module has no default export; it exports ${seen}: ${form}`);
  }
  const target = namespace.default;
  if (typeof target === "function") {
    const { prototype } = target;
    if (!ObjectPrototypeIsPrototypeOf(WorkerEntrypointPrototype, prototype)) {
      throw new TypeError(
        "the module's default export is a function: export an object with a fetch method, or a class " +
          `that extends WorkerEntrypoint of "cloudflare:workers"; ${form}`,
      );
    }
    return checkHandlers({
      __proto__: null,
      target,
      entrypoint: target,
      fetch: method(prototype, "fetch"),
      scheduled: method(prototype, "scheduled"),
    }, prototype, form);
  }
  if (typeof target !== "object" || target === null) {
    throw new TypeError(`the module's default export is not an object, it is ${kindOf(target)}: ${form}`);
  }
  return checkHandlers({
    __proto__: null,
    target,
    entrypoint: undefined,
    fetch: method(target, "fetch"),
    scheduled: method(target, "scheduled"),
  }, target, form);
}

function kindOf(value) {
  return value === null || value === undefined ? String(value) : `a ${typeof value}`;
}

function method(target, name) {
  const value = target[name];
  if (value === undefined) return undefined;
  if (typeof value !== "function") {
    throw new TypeError(`'${name}' of the module's default export must be a function, not ${kindOf(value)}`);
  }
  return value;
}

function checkHandlers(found, target, form) {
  if (found.fetch === undefined && found.scheduled === undefined) {
    const names = ObjectKeys(target);
    if (names.length > MAX_NAMES) names.length = MAX_NAMES;
    const seen = names.length === 0 ? "nothing" : ArrayPrototypeJoin(names, ", ");
    throw new TypeError(
      `the module's default export has neither fetch nor scheduled, it has ${seen}: ${form}`,
    );
  }
  return found;
}

// The module could not be loaded, or threw.
function mainFailed(name, message, stack) {
  if (!serving) return;
  failed = { __proto__: null, name, message, stack: stack ?? "" };
  control("serve.failed", failed);
  dispatchWaiting();
}

// Whether a rejection that nobody handles is how the module failed, which the host has been told.
let moduleRejected = false;
function isModuleFailure(reason) {
  if (failed === undefined || moduleRejected || messageOf(reason) !== failed.message) return false;
  moduleRejected = true;
  return true;
}

function dispatchWaiting() {
  const list = waiting;
  waiting = [];
  for (let i = 0; i < list.length; i++) list[i]();
}

// What another site may call by this name: a method of the default export, its own or of its class.
// Gives a function of the arguments.
function callable(name) {
  if (site === undefined || SetPrototypeHas(RESERVED, name)) return undefined;
  if (site.entrypoint !== undefined) {
    const found = methodOf(site.entrypoint.prototype, name);
    if (found === undefined) return undefined;
    return (args) => {
      const live = new Live(undefined, undefined);
      const ctx = new ExecutionContext(ours, live);
      return ReflectApply(found, new site.entrypoint(ctx, env), args);
    };
  }
  const found = methodOf(site.target, name);
  if (found === undefined) return undefined;
  return (args) => ReflectApply(found, site.target, args);
}

// Nothing that every object has is a method of this one; no getter runs.
function methodOf(target, name) {
  let holder = target;
  while (
    holder !== null && holder !== ObjectPrototype && holder !== WorkerEntrypointPrototype
  ) {
    const found = ObjectGetOwnPropertyDescriptor(holder, name);
    if (found !== undefined) return typeof found.value === "function" ? found.value : undefined;
    holder = ObjectGetPrototypeOf(holder);
  }
  return undefined;
}

// ---- Globals ----

// `Response` with the WebSocket that an answer of status 101 hands over.
const Original = ResponsePrototype.constructor;
function Response(body = null, init = undefined) {
  if (new.target === undefined) {
    throw new TypeError("Class constructor Response cannot be invoked without 'new'");
  }
  const response = new.target === Response
    ? new Original(body, init)
    : ReflectConstruct(Original, [body, init], new.target);
  if (init !== undefined && init !== null) {
    const socket = init.webSocket;
    if (socket !== undefined && socket !== null) sockets.hand(response, socket);
  }
  return response;
}

const cf = {
  __proto__: null,
  configurable: true,
  enumerable: true,
  get() {
    webidl.assertBranded(this, RequestPrototype);
    return toInnerRequest(this).cf ?? undefined;
  },
};

const webSocket = {
  __proto__: null,
  configurable: true,
  enumerable: true,
  get() {
    webidl.assertBranded(this, ResponsePrototype);
    return sockets.handed(this);
  },
};

class Navigator {
  constructor() {
    webidl.illegalConstructor();
  }

  get userAgent() {
    webidl.assertBranded(this, NavigatorPrototype);
    return USER_AGENT;
  }
}
webidl.configureInterface(Navigator);
const NavigatorPrototype = Navigator.prototype;

// Where the module "cloudflare:workers" finds what it exports, see `stockade_isolate::modules`.
const WORKERS = SymbolFor("cloudflare:workers");

// Before any guest code. True if the isolate serves.
function configure(settings) {
  if (!ObjectHasOwn(settings.env, SERVE)) return false;
  serving = true;
  env = { __proto__: ObjectPrototype };
  for (const key of new SafeArrayIterator(ObjectKeys(settings.env))) {
    if (key !== SERVE && key !== BINDINGS) define(env, key, settings.env[key]);
  }
  const given = settings.env[BINDINGS];
  if (given !== undefined) {
    for (const name of new SafeArrayIterator(ObjectKeys(given))) {
      define(env, name, bindings.create(name, given[name].kind));
    }
  }
  streams.configure({
    __proto__: null,
    ahead: CHUNKS_AHEAD,
    chunkBytes: CHUNK_BYTES,
    early: true,
  });
  MapPrototypeSet(controls, "http.request", onRequest);
  MapPrototypeSet(controls, "http.abort", onAbort);
  MapPrototypeSet(controls, "cron.run", onCron);
  sockets.configure();

  for (const name of new SafeArrayIterator(ObjectKeys(Original))) {
    ObjectDefineProperty(Response, name, ObjectGetOwnPropertyDescriptor(Original, name));
  }
  ObjectDefineProperty(Response, "prototype", {
    __proto__: null,
    value: ResponsePrototype,
    writable: false,
    enumerable: false,
    configurable: false,
  });
  ObjectDefineProperty(Response, "length", { __proto__: null, value: 0, configurable: true });
  ObjectDefineProperty(ResponsePrototype, "constructor", core.propNonEnumerable(Response));
  ObjectDefineProperty(ResponsePrototype, "webSocket", webSocket);
  ObjectDefineProperty(RequestPrototype, "cf", cf);
  ObjectDefineProperty(globalThis, "Response", core.propNonEnumerable(Response));
  ObjectDefineProperty(globalThis, "WebSocketPair", core.propNonEnumerable(sockets.WebSocketPair));
  ObjectDefineProperty(globalThis, "Navigator", core.propNonEnumerable(Navigator));
  const navigator = webidl.createBranded(Navigator);
  ObjectDefineProperty(globalThis, "navigator", core.propGetterOnly(() => navigator));
  ObjectDefineProperty(globalThis, WORKERS, {
    __proto__: null,
    value: ObjectFreeze({ __proto__: null, WorkerEntrypoint, env }),
  });
  delete globalThis.NETWORK;
  return true;
}

function define(target, key, value) {
  ObjectDefineProperty(target, key, {
    __proto__: null,
    value,
    configurable: true,
    enumerable: true,
    writable: true,
  });
}

return { callable, configure, isModuleFailure, main, mainFailed };
})();
