// Serve mode: the default export of the guest's module answers what the host hands over.
//
// Control messages, host to guest:
//   http.request [id, method, url, [name, value, ...], body, cf], http.abort [id]; a request that the host traces has a
//     further item, true
//   cron.run [id, cron, scheduledTime]; a run that the host traces has a further element, `true`
//   connect.run [id, { id, remoteAddress, localAddress }, transport]: a connection of a client, its pipe, and "tcp", "tls"
//     or "udp", of which the pipe has datagrams as those of `datagram.js`
// Guest to host:
//   serve.ready { handlers, exports } or serve.failed { name, message, stack }, once
//   http.response [id, status, [name, value, ...], body, socket, pending]: `body` may also be a mark "h" and the
//     id of a stream of the host's, which goes on without the guest; ":reason" may be the first name, its value
//     is the text of the status
//   http.failed [id, name, message, stack]
//   http.settled [id]: after `pending`, all that `waitUntil` was given is done
//   call.pending [n], call.settled [n]: `waitUntil` was given something by a call of a method, and all of it is done
//   cron.done [id, null or a message], connect.done [id, null or a message]
// `sockets.js` says what is said about WebSockets, `pipes.js` what about connections, `bindings.js` what `env` holds.
//
// Invariant: each request is answered once. What a handler throws, or answers wrongly, is an answer too.

(function () {
const { core, primordials } = __bootstrap;
const { op_guest_failed, op_guest_uncaught } = core.ops;
const {
  ArrayPrototypeFilter,
  ArrayPrototypePush,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperty,
  ObjectFreeze,
  ObjectHasOwn,
  ObjectKeys,
  ObjectPrototype,
  ObjectSetPrototypeOf,
  Promise,
  PromisePrototypeThen,
  PromiseResolve,
  ReflectApply,
  SafeArrayIterator,
  SafeMap,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeLastIndexOf,
  StringPrototypeSlice,
  TypedArrayPrototypeGetByteLength,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { abortRequest, fromInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { control, controls, putFunctions, streams } = core.loadExtScript("ext:stockade_realm/network.js");
const bindings = core.loadExtScript("ext:stockade_realm/bindings.js");
const { noteClient } = core.loadExtScript("ext:stockade_realm/fetch.js");
const { accept, connect } = core.loadExtScript("ext:stockade_realm/connect.js");
const { acceptDatagrams, datagram } = core.loadExtScript("ext:stockade_realm/datagram.js");
const sockets = core.loadExtScript("ext:stockade_realm/sockets.js");
const answer = core.loadExtScript("ext:stockade_realm/answer.js");
const modules = core.loadExtScript("ext:stockade_realm/site.js");
const targets = core.loadExtScript("ext:stockade_realm/targets.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");
const globals = core.loadExtScript("ext:stockade_realm/site_globals.js");

// Keys of `env` that are between the two runtimes. No key of a user begins with U+0000.
const SERVE = "\0serve";
const BINDINGS = "\0bindings";

// What the host may have on its way of one stream: chunks, and bytes of a chunk.
const CHUNKS_AHEAD = 8;
const CHUNK_BYTES = 128 * 1024;

const HANDLERS = ["connect", "fetch", "scheduled"];

let serving = false;
let env;
let site; // what answers, once the module has been evaluated
let failed; // why there is none: { name, message, stack }
let waiting = []; // messages that came before the module had been evaluated
const lives = new SafeMap(); // id -> Live, all but the newest
let newest; // most are answered before the next one comes

// ---- One request ----

// What the runtime keeps of a request that it has not done with.
class Live {
  constructor(id, settled, scope) {
    this.id = id;
    this.request = undefined;
    this.aborted = false;
    // Promises given to `waitUntil` that are still open, and what to do when there is a first one, and when none is.
    this.open = 0;
    this.begins = undefined;
    this.settled = settled;
    // What it holds of other sites and has passed on to them, where there can be any.
    this.scope = scope;
    if (scope !== undefined) targets.retain(scope);
  }
}

// Its fields are its own, whatever a guest puts on `Object.prototype`.
ObjectSetPrototypeOf(Live.prototype, null);

const ours = { __proto__: null };

// The `ctx` of what runs now, for `waitUntil` of "cloudflare:workers". Only sites that import this module have it, since
// each handler costs something more with it.
let running;

class ExecutionContext {
  #live;

  constructor(key, live) {
    if (key !== ours) webidl.illegalConstructor();
    this.#live = live;
    // Each message of the host begins without it.
    running?.enter(this);
  }

  waitUntil(promise) {
    const live = this.#live;
    webidl.requiredArguments(arguments.length, 1, "Failed to execute 'waitUntil'");
    if (live.open === 0) live.begins?.(live);
    live.open++;
    const { scope } = live;
    if (scope !== undefined) targets.retain(scope);
    const done = () => {
      live.open--;
      if (live.open === 0) live.settled?.(live);
      if (scope !== undefined) targets.release(scope);
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
const { waitUntil: waitUntilOf } = ExecutionContext.prototype;
const NO_PROPS = ObjectFreeze({ __proto__: ObjectPrototype });

function waitUntil(promise) {
  const ctx = running.get();
  if (ctx === undefined) {
    throw new TypeError("waitUntil was called outside of a handler: call it in what a handler of this site does");
  }
  ReflectApply(waitUntilOf, ctx, [promise]);
}

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
    // The request that this is the inner one of.
    this.request = null;
  }

  // The platform says so when it makes the request's signal.
  onCancel() {
    noteClient(this.request);
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
      const { name, message: text, stack } = failed;
      control("http.failed", [message[0], name, text, stack]);
    }
    return;
  }
  const live = new Live(message[0], undefined, targets.requestScope());
  keep(live);
  let result;
  try {
    if (site.fetch === undefined) {
      throw new TypeError(`the module's default export has no fetch handler. Its form is: ${modules.FORM}`);
    }
    const inner = new Incoming(
      message[1],
      message[2],
      message[3],
      incomingBody(message[4]),
      message[5],
    );
    const request = fromInnerRequest(inner, "immutable");
    inner.request = request;
    live.request = request;
    const ctx = new ExecutionContext(ours, live);
    result = message[6] === true
      ? trace.within(live.id, () => callWithin(live.scope, request, ctx))
      : callWithin(live.scope, request, ctx);
  } catch (error) {
    fail(live, error);
    return;
  }
  then(result, (response) => respond(live, response), (error) => fail(live, error));
}

function callWithin(scope, request, ctx) {
  return scope === undefined ? callFetch(request, ctx) : targets.within(scope, () => callFetch(request, ctx));
}

function callFetch(request, ctx) {
  if (site.entrypoint === undefined) return ReflectApply(site.fetch, site.target, [request, env, ctx]);
  const target = new site.entrypoint(ctx, env);
  return target.fetch(request);
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
    return (typeof value === "object" || typeof value === "function") && value !== null && typeof value.then === "function";
  } catch {
    return false;
  }
}

function onAbort(message) {
  const live = find(message[0]);
  if (live === undefined || live.aborted) return;
  live.aborted = true;
  if (live.request !== undefined) abortRequest(live.request);
}

function keep(live) {
  if (newest !== undefined) MapPrototypeSet(lives, newest.id, newest);
  newest = live;
}

function find(id) {
  return newest !== undefined && newest.id === id ? newest : MapPrototypeGet(lives, id);
}

function forget(live) {
  if (live === newest) newest = undefined;
  else MapPrototypeDelete(lives, live.id);
  if (live.scope !== undefined) targets.release(live.scope);
}

// ---- Its answer ----

function fail(live, error) {
  forget(live);
  op_guest_failed(live.id, error);
}

function respond(live, response) {
  const pending = live.open > 0;
  if (pending) live.settled = settled;
  let goesOn;
  try {
    goesOn = answer.send(live, response, pending, () => forget(live));
  } catch (error) {
    live.settled = undefined;
    fail(live, error);
    return;
  }
  if (!goesOn) forget(live);
}

function settled(live) {
  control("http.settled", [live.id]);
}

// ---- Calls of methods ----

let calls = 0;

// The host is notified when a call's promises begin and end, since the reply to the call does not say so.
function callLive(scope) {
  calls++;
  const live = new Live(calls, (live) => control("call.settled", [live.id]), undefined);
  // The call itself is what uses it until it is over.
  live.scope = scope;
  live.begins = (live) => control("call.pending", [live.id]);
  return live;
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
  const work = (ctx) => {
    if (site.scheduled === undefined) {
      throw new TypeError("the module's default export has no scheduled handler");
    }
    const controller = new ScheduledController(ours, message[1], message[2]);
    if (site.entrypoint === undefined) return ReflectApply(site.scheduled, site.target, [controller, env, ctx]);
    const target = new site.entrypoint(ctx, env);
    return target.scheduled(controller);
  };
  run(id, "cron.done", message[3] === true ? (ctx) => trace.within(id, () => work(ctx)) : work, undefined);
}

// ---- Connections ----

function onConnect(message) {
  const id = message[0];
  if (site === undefined) {
    if (failed === undefined) ArrayPrototypePush(waiting, () => onConnect(message));
    else control("connect.done", [id, failed.message]);
    return;
  }
  const [, info, transport] = message;
  const socket = transport === "udp" ? acceptDatagrams(info) : accept(info, transport === "tls");
  run(id, "connect.done", (ctx) => {
    if (site.connect === undefined) {
      throw new TypeError("the module's default export has no connect handler");
    }
    if (site.entrypoint === undefined) return ReflectApply(site.connect, site.target, [socket, env, ctx]);
    const target = new site.entrypoint(ctx, env);
    return target.connect(socket);
  }, () => socket.close());
}

// Does the work of a handler that gives no response, and says when it and what `waitUntil` was given are done.
// `onError` is called before the host learns of a failure.
function run(id, name, work, onError) {
  const live = new Live(id, undefined, targets.requestScope());
  let error = null;
  const finish = () => {
    if (live.open > 0) {
      live.settled = finish;
      return;
    }
    live.settled = undefined;
    control(name, [id, error]);
    if (live.scope !== undefined) targets.release(live.scope);
  };
  const fails = (thrown) => {
    op_guest_uncaught(thrown, true);
    error = messageOf(thrown);
    onError?.();
    finish();
  };
  let result;
  try {
    const ctx = new ExecutionContext(ours, live);
    result = live.scope === undefined ? work(ctx) : targets.within(live.scope, () => work(ctx));
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

// The module has been evaluated.
function main(namespace) {
  if (!serving) return;
  let found;
  try {
    found = modules.find(namespace);
    const handlers = ArrayPrototypeFilter(HANDLERS, (name) => found[name] !== undefined);
    const exports = modules.namesOf(namespace);
    control("serve.ready", { __proto__: null, handlers, exports });
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
    return;
  }
  site = found;
  dispatchWaiting();
}

// The module could not be loaded, or threw.
function mainFailed(name, message, stack) {
  if (!serving) return;
  failed = { __proto__: null, name, message, stack: stack ?? "" };
  control("serve.failed", failed);
  dispatchWaiting();
}

// Whether a rejection that nobody handles is how the module failed, which was reported to the host.
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

// The number of a call that the host traces, which stands behind a U+0000 at the end of the name. The host calls nothing whose
// own name ends so.
function numberOf(name) {
  if (!serving) return undefined;
  const at = StringPrototypeLastIndexOf(name, "\0");
  if (at <= 0 || at === name.length - 1) return undefined;
  for (let i = at + 1; i < name.length; i++) {
    const code = StringPrototypeCharCodeAt(name, i);
    if (code < 48 || code > 57) return undefined;
  }
  return StringPrototypeSlice(name, at + 1);
}

// What another site may call by this name: `{ work, scope }`, a function of the arguments and what it is called in.
function callable(name) {
  if (!serving) return undefined;
  // What this site has passed to others has a U+0000 more in front.
  if (StringPrototypeCharCodeAt(name, 0) === 0) return targets.callable(StringPrototypeSlice(name, 1));
  const found = site === undefined ? undefined : modules.callable(site, name);
  if (found === undefined) return undefined;
  const scope = new targets.Scope();
  const work = (args) => {
    const ctx = site.entrypoint === undefined && running === undefined
      ? undefined
      : new ExecutionContext(ours, callLive(scope));
    const target = site.entrypoint === undefined ? site.target : new site.entrypoint(ctx, env);
    return ReflectApply(found, target, args);
  };
  return { __proto__: null, work, scope };
}

// ---- The start ----

// Before any guest code. True if the isolate serves.
function configure(settings) {
  if (!ObjectHasOwn(settings.env, SERVE)) return false;
  serving = true;
  env = { __proto__: ObjectPrototype };
  putFunctions(settings.env);
  for (const key of new SafeArrayIterator(ObjectKeys(settings.env))) {
    if (key !== SERVE && key !== BINDINGS) define(env, key, settings.env[key]);
  }
  const given = settings.env[BINDINGS];
  if (given !== undefined) {
    for (const name of new SafeArrayIterator(ObjectKeys(given))) {
      define(env, name, bindings.create(name, given[name].kind, given[name].details));
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
  MapPrototypeSet(controls, "connect.run", onConnect);
  sockets.configure();
  targets.configure();
  const { RpcPromise, RpcStub, RpcTarget } = targets;
  const { WorkerEntrypoint } = modules;
  const workers = { __proto__: null, RpcPromise, RpcStub, RpcTarget, WorkerEntrypoint, env };
  ObjectDefineProperty(workers, "waitUntil", {
    __proto__: null,
    get() {
      running ??= new core.AsyncVariable();
      return waitUntil;
    },
  });
  globals.install(
    workers,
    { __proto__: null, connect, datagram },
  );
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

return { callable, configure, isModuleFailure, main, mainFailed, numberOf };
})();
