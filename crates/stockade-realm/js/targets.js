// Functions and objects that other sites can call, and those of other sites that this one can.
//
// Requests and control messages:
//   target.call { id, method, property, args }, a request to the host: calls what this site holds, or a method of it, or
//     reads a property
//   target.dispose { id }, to the host: this site holds it no more
//   target.release { id }, from the host: no other site holds what this one has passed on by this id
// The host calls what this site has passed on under the names "\0ID", "\0ID:METHOD" and "\0ID.PROPERTY".
//
// Invariants:
// 1. The numbers of what this site holds, and of what it has passed on, are its own: the host translates them.
// 2. What is held and passed on belongs to a request, or to a call of a method, and ends with it: see `Scope`.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayIsArray,
  ArrayPrototypePush,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeGetSize,
  MapPrototypeSet,
  Number,
  ObjectDefineProperty,
  ObjectGetOwnPropertyDescriptor,
  ObjectGetPrototypeOf,
  ObjectHasOwn,
  ObjectPreventExtensions,
  ObjectPrototype,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  PromisePrototypeFinally,
  PromisePrototypeThen,
  Proxy,
  RangeError,
  ReflectApply,
  SafeFinalizationRegistry,
  SafeMap,
  SafeSet,
  SafeSetIterator,
  SetPrototypeAdd,
  SetPrototypeDelete,
  StringPrototypeCharCodeAt,
  StringPrototypeSlice,
  SymbolDispose,
  SymbolToStringTag,
  TypeError,
  WeakMap,
  WeakMapPrototypeGet,
  WeakMapPrototypeHas,
  WeakMapPrototypeSet,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const event = core.loadExtScript("ext:deno_web/02_event.js");
const { attempt, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");
const { control, controls, startRequest } = core.loadExtScript("ext:stockade_realm/network.js");
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");

// Functions and objects that other sites may hold. The host has a bound of its own.
const MAX_TARGETS = 10_000;

// The base class of objects that are passed by reference: their methods can be called from other sites.
class RpcTarget {}
const RpcTargetPrototype = RpcTarget.prototype;

// What stubs, and the results of their calls, are instances of.
class RpcStub {
  constructor() {
    webidl.illegalConstructor();
  }
}
class RpcPromise {
  constructor() {
    webidl.illegalConstructor();
  }
}
for (const one of [RpcStub, RpcPromise]) {
  ObjectDefineProperty(one.prototype, SymbolToStringTag, {
    __proto__: null,
    value: one.name,
    configurable: true,
  });
}

const lent = new SafeMap(); // id -> { value, scope, kept } of what this site has passed on
let lastLent = 0;
const handles = new WeakMap(); // stub -> its handle
const promises = new WeakMap(); // what `makePromise` gave -> how to ask for its value
let forgotten; // disposes of stubs that were collected
let arriving; // { scope, handles } while data is revived that came from another site
let replying; // the scope of the call whose result is being encoded

// ---- Scopes ----

// What a request, or a call of a method, holds of other sites, and what it has passed on. All of that ends with the last of
// its users: the handler, promises of `waitUntil`, and what its results have lent to others.
class Scope {
  constructor() {
    this.users = 0;
    this.over = false;
    this.handles = new SafeSet();
    this.lent = new SafeSet();
  }
}
ObjectSetPrototypeOf(Scope.prototype, null);

// Which scope the code that runs now belongs to.
const current = new core.AsyncVariable();

function within(scope, work) {
  const before = current.enter(scope);
  try {
    return work();
  } finally {
    core.setAsyncContext(before);
  }
}

function currentScope() {
  const scope = current.get();
  return scope === undefined || scope.over ? undefined : scope;
}

function retain(scope) {
  scope.users++;
}

function release(scope) {
  scope.users--;
  if (scope.users > 0) return;
  scope.over = true;
  for (const handle of new SafeSetIterator(scope.handles)) dispose(handle);
  for (const id of new SafeSetIterator(scope.lent)) withdraw(id);
}

// ---- What this site holds of others ----

// `held` is `{ id, stubs }` and shared by the stubs of one target; a handle is one stub's part in it.
function makeStub(held, scope) {
  held.stubs++;
  const handle = { __proto__: null, held, open: true, scope };
  const stub = new Proxy(shell(RpcStub.prototype), {
    __proto__: null,
    apply: (_target, _self, args) => resultOf(use(handle, undefined, undefined, args)),
    get(target, name) {
      if (name === SymbolDispose) return () => dispose(handle);
      if (name === "dup") return () => dup(handle);
      if (isOwn(name)) return own(target, name);
      // The stub stays as long as its part: its collection disposes of it.
      return makePromise(
        () => (stub, use(handle, undefined, name, [])),
        (args) => (stub, resultOf(use(handle, name, undefined, args))),
      );
    },
  });
  WeakMapPrototypeSet(handles, stub, handle);
  if (scope !== undefined) SetPrototypeAdd(scope.handles, handle);
  forgotten.register(stub, handle);
  return stub;
}

// What a proxy of a stub or of a promise stands before: it can be called, and has no property that could not be a method's.
function shell(prototype) {
  const fn = () => {};
  delete fn.name;
  delete fn.length;
  return ObjectPreventExtensions(ObjectSetPrototypeOf(fn, prototype));
}

// Names that belong to no part of what a stub stands for: `await` would call `then`, JSON asks for `toJSON`, and the
// others are what every object has.
function isOwn(name) {
  return typeof name !== "string" || name === "then" || name === "toJSON" || ObjectHasOwn(ObjectPrototype, name);
}

function own(target, name) {
  return name === "then" || name === "toJSON" ? undefined : target[name];
}

function dup(handle) {
  checkOpen(handle);
  const scope = currentScope() ?? (handle.scope?.over ? undefined : handle.scope);
  return makeStub(handle.held, scope);
}

function checkOpen(handle) {
  if (handle.open) return;
  throw new TypeError(
    handle.scope?.over
      ? "the request or the call that the stub was received in is over: a stub ends with it"
      : "the stub has been disposed of",
  );
}

function dispose(handle) {
  if (!handle.open) return;
  handle.open = false;
  if (handle.scope !== undefined) SetPrototypeDelete(handle.scope.handles, handle);
  const { held } = handle;
  held.stubs--;
  if (held.stubs === 0) control("target.dispose", { __proto__: null, id: held.id });
}

function use(handle, method, property, args) {
  return attempt(() => {
    checkOpen(handle);
    if (method !== undefined) checkText(method, "the name of a method");
    if (property !== undefined) checkText(property, "the name of a property");
    const { id } = handle.held;
    return ask("target.call", { __proto__: null, id, method: method ?? null, property: property ?? null, args });
  });
}

// ---- Results that are not there yet ----

function ask(request, data) {
  const scope = currentScope();
  const decode = (value, marked) => {
    const { value: revived, handles } = arrive(scope, () => marked ? payload.revive(value) : value);
    return disposable(revived, handles);
  };
  return startRequest(request, trace.mark(data), undefined, undefined, payload.encodeExact, decode);
}

// A method of a site that is bound.
function callSite(binding, method, args) {
  return resultOf(attempt(() => {
    checkText(method, "the name of a method");
    return ask("binding.call", { __proto__: null, binding, method, args });
  }));
}

// `using` works with every object that a call gives, and disposes of the stubs in it.
function disposable(value, handles) {
  if (typeof value !== "object" || value === null) return value;
  const prototype = ObjectGetPrototypeOf(value);
  if (prototype !== ObjectPrototype && !ArrayIsArray(value)) return value;
  ObjectDefineProperty(value, SymbolDispose, {
    __proto__: null,
    value: () => {
      for (let i = 0; i < handles.length; i++) dispose(handles[i]);
    },
    configurable: true,
    enumerable: false,
    writable: true,
  });
  return value;
}

function resultOf(promise) {
  return makePromise(
    () => promise,
    (args) => resultOf(PromisePrototypeThen(promise, (value) => invoke(value, undefined, args))),
  );
}

// A promise whose parts can be used before its value is there: `env.NAME.make().next()`. `ask` gives a promise of the
// value, and is called once, when the value is wanted; `apply` calls it.
function makePromise(ask, apply) {
  let promise;
  const asked = () => promise ??= ask();
  const proxy = new Proxy(shell(RpcPromise.prototype), {
    __proto__: null,
    apply: (_target, _self, args) => apply(args),
    get(target, name) {
      switch (name) {
        case "then":
          return (done, failed) => PromisePrototypeThen(asked(), done, failed);
        case "catch":
          return (failed) => PromisePrototypeThen(asked(), undefined, failed);
        case "finally":
          return (over) => PromisePrototypeFinally(asked(), over);
        case SymbolDispose:
          return () => void PromisePrototypeThen(asked(), disposeOf, () => {});
      }
      if (isOwn(name)) return own(target, name);
      return makePromise(
        () => PromisePrototypeThen(asked(), (value) => read(value, name)),
        (args) => resultOf(PromisePrototypeThen(asked(), (value) => invoke(value, name, args))),
      );
    },
  });
  WeakMapPrototypeSet(promises, proxy, asked);
  return proxy;
}

function disposeOf(value) {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
  const method = value[SymbolDispose];
  if (typeof method === "function") ReflectApply(method, value, []);
}

// A property of a result; of plain data only what it has itself.
function read(value, name) {
  const handle = handleOf(value);
  if (handle !== undefined) return use(handle, undefined, name, []);
  if (value === null || value === undefined) {
    throw new TypeError(`the result is ${value} and has no property '${name}'`);
  }
  return ObjectHasOwn(value, name) ? value[name] : undefined;
}

function invoke(value, name, args) {
  const handle = handleOf(value);
  if (handle !== undefined) return use(handle, name, undefined, args);
  const found = name === undefined ? value : read(value, name);
  if (typeof found !== "function") {
    throw new TypeError(name === undefined ? "the result is not a function" : `the result has no method '${name}'`);
  }
  return ReflectApply(found, value, args);
}

function handleOf(value) {
  return typeof value === "function" ? WeakMapPrototypeGet(handles, value) : undefined;
}

// ---- What others hold of this site ----

function isTarget(value) {
  if (typeof value !== "function") return ObjectPrototypeIsPrototypeOf(RpcTargetPrototype, value);
  if (WeakMapPrototypeHas(promises, value)) {
    throw new TypeError("the result of a call of another site cannot be passed on before it is there: await it first");
  }
  return true;
}

// A number for the target in data that is sent. A stub is passed on as another one, which calls what it stands for.
function lend(value) {
  if (MapPrototypeGetSize(lent) >= MAX_TARGETS) {
    throw new RangeError(`others hold ${MAX_TARGETS} functions and objects of this site: dispose of stubs there`);
  }
  const kept = replying !== undefined;
  const scope = kept ? replying : currentScope();
  const handle = handleOf(value);
  lastLent++;
  MapPrototypeSet(lent, lastLent, {
    __proto__: null,
    value: handle === undefined ? value : within(scope, () => dup(handle)),
    scope,
    kept,
  });
  if (scope !== undefined) {
    SetPrototypeAdd(scope.lent, lastLent);
    if (kept) retain(scope);
  }
  return lastLent;
}

// Takes it back: the data was not sent, or the request is over.
function withdraw(id) {
  const entry = MapPrototypeGet(lent, id);
  if (entry === undefined) return undefined;
  MapPrototypeDelete(lent, id);
  const handle = handleOf(entry.value);
  if (handle !== undefined) dispose(handle);
  if (entry.scope !== undefined) SetPrototypeDelete(entry.scope.lent, id);
  if (entry.kept && !entry.scope.over) release(entry.scope);
  return handle === undefined ? entry : undefined;
}

function onRelease({ id }) {
  const entry = MapPrototypeGet(lent, id);
  if (entry === undefined) return;
  if (handleOf(entry.value) === undefined) notifyReleased(entry);
  withdraw(id);
}

function notifyReleased({ value, scope }) {
  within(scope, () => {
    try {
      const method = value[SymbolDispose];
      if (typeof method === "function") ReflectApply(method, value, []);
    } catch (error) {
      event.reportException(error);
    }
  });
}

// What a call of the host is to use, as `answer` takes it. Throws where there is nothing.
function callable(name) {
  let end = 0;
  while (isDigit(StringPrototypeCharCodeAt(name, end))) end++;
  const entry = MapPrototypeGet(lent, Number(StringPrototypeSlice(name, 0, end)));
  if (entry === undefined) {
    throw new TypeError("what the stub stood for is not there any more: the request that passed it on is over");
  }
  const scope = entry.scope ?? new Scope();
  const part = StringPrototypeSlice(name, end + 1);
  const reads = name[end] === ".";
  return { __proto__: null, scope, work: workOf(entry.value, end === name.length ? undefined : part, reads) };
}

function isDigit(code) {
  return code >= 48 && code <= 57;
}

function workOf(target, name, reads) {
  const handle = handleOf(target);
  if (handle !== undefined) {
    return reads ? () => use(handle, undefined, name, []) : (args) => use(handle, name, undefined, args);
  }
  if (name === undefined) {
    if (typeof target !== "function") throw new TypeError("the stub stands for an object: call a method of it");
    return (args) => ReflectApply(target, undefined, args);
  }
  const found = partOf(target, name);
  if (found === undefined) {
    throw new TypeError(
      `the object has no ${reads ? "property" : "method"} '${name}': methods and getters of its class can be used`,
    );
  }
  const value = () => found.get === undefined ? found.value : ReflectApply(found.get, target, []);
  if (reads) {
    return () => {
      const it = value();
      return found.get === undefined && typeof it === "function" ? (...args) => ReflectApply(it, target, args) : it;
    };
  }
  return (args) => {
    const method = value();
    if (typeof method !== "function") throw new TypeError(`'${name}' of the object is not a method`);
    return ReflectApply(method, target, args);
  };
}

// Methods and getters of the object's classes, and nothing that it has as its own or that every object has.
function partOf(target, name) {
  if (typeof target === "function" || name === "constructor") return undefined;
  let holder = ObjectGetPrototypeOf(target);
  while (holder !== null && holder !== RpcTargetPrototype && holder !== ObjectPrototype) {
    const found = ObjectGetOwnPropertyDescriptor(holder, name);
    if (found !== undefined) return { __proto__: null, get: found.get, value: found.value };
    holder = ObjectGetPrototypeOf(holder);
  }
  return undefined;
}

// ---- Between the two ----

function hold(id) {
  const scope = arriving?.scope;
  const stub = makeStub({ __proto__: null, id, stubs: 0 }, scope);
  if (arriving !== undefined) ArrayPrototypePush(arriving.handles, WeakMapPrototypeGet(handles, stub));
  return stub;
}

// Revives data; gives the handles of the stubs in it, too.
function arrive(scope, revive) {
  const before = arriving;
  const arrived = [];
  arriving = { __proto__: null, scope: scope?.over ? undefined : scope, handles: arrived };
  try {
    return { __proto__: null, value: revive(), handles: arrived };
  } finally {
    arriving = before;
  }
}

// A call of another site that this one answers. Stubs in the arguments end with the call: what is to stay is a duplicate.
class Call {
  #scope;
  #handles = [];

  constructor(scope) {
    this.#scope = scope;
    retain(scope);
  }

  run(work, revive) {
    const { value, handles } = arrive(this.#scope, revive);
    this.#handles = handles;
    return within(this.#scope, () => work(value));
  }

  encode(result) {
    const before = replying;
    replying = this.#scope;
    try {
      return payload.encodeValue(result);
    } finally {
      replying = before;
    }
  }

  over() {
    for (let i = 0; i < this.#handles.length; i++) dispose(this.#handles[i]);
    release(this.#scope);
  }
}

// Whether this site can receive or pass on anything in its requests.
let used = false;

function bound() {
  used = true;
}

// A scope for a request, or `undefined` where it can have no use.
function requestScope() {
  return used ? new Scope() : undefined;
}

// Before any guest code.
function configure() {
  forgotten = new SafeFinalizationRegistry((handle) => dispose(handle));
  MapPrototypeSet(controls, "target.release", onRelease);
  payload.connectTargets({ __proto__: null, hold, isTarget, lend, withdraw });
}

return {
  bound,
  Call,
  callable,
  callSite,
  configure,
  release,
  requestScope,
  retain,
  RpcPromise,
  RpcStub,
  RpcTarget,
  Scope,
  within,
};
})();
