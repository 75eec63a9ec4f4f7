// `AsyncLocalStorage` and `AsyncResource`, as the module "node:async_hooks" has them.
//
// The engine carries one value along every await, and the runtime's timers carry it too. That value is a map
// from each storage to what it holds there; it is replaced and never changed.
//
// Invariant: what a host's message starts begins without a context, whatever ran before; `stockade_isolate`
// sees to that.

(function () {
const { core, primordials } = __bootstrap;
const {
  ObjectDefineProperty,
  ObjectFreeze,
  ReflectApply,
  SafeArrayIterator,
  SymbolFor,
  TypeError,
} = primordials;
const { AsyncVariable, getAsyncContext, setAsyncContext } = core;

// Where the module "node:async_hooks" finds what it exports, see `stockade_isolate::modules`.
const HOOKS = SymbolFor("node:async_hooks");

function checkFunction(fn) {
  if (typeof fn !== "function") {
    throw new TypeError(`the callback must be a function, not ${fn === null ? "null" : typeof fn}`);
  }
}

function within(context, fn, self, args) {
  const before = getAsyncContext();
  setAsyncContext(context);
  try {
    return ReflectApply(fn, self, args);
  } finally {
    setAsyncContext(before);
  }
}

class AsyncLocalStorage {
  #variable = new AsyncVariable();
  #defaultValue;
  #name = "";

  constructor(options = undefined) {
    this.#defaultValue = options?.defaultValue;
    if (options?.name !== undefined) this.#name = `${options.name}`;
  }

  static bind(fn) {
    return AsyncResource.bind(fn);
  }

  // A function that runs another one in the context of now.
  static snapshot() {
    const context = getAsyncContext();
    return function (fn, ...args) {
      checkFunction(fn);
      return within(context, fn, this, args);
    };
  }

  get name() {
    return this.#name;
  }

  run(store, fn, ...args) {
    checkFunction(fn);
    const before = this.#variable.enter({ __proto__: null, store });
    try {
      return ReflectApply(fn, undefined, args);
    } finally {
      setAsyncContext(before);
    }
  }

  exit(fn, ...args) {
    checkFunction(fn);
    return ReflectApply(run, this, [undefined, fn, ...new SafeArrayIterator(args)]);
  }

  getStore() {
    const held = this.#variable.get();
    return held === undefined ? this.#defaultValue : held.store;
  }

  enterWith(store) {
    this.#variable.enter({ __proto__: null, store });
  }

  disable() {
    this.#variable.enter(undefined);
  }
}
const { run } = AsyncLocalStorage.prototype;

class AsyncResource {
  #context = getAsyncContext();
  #type;

  constructor(type, _options = undefined) {
    if (typeof type !== "string") {
      throw new TypeError(`the type of an AsyncResource must be a string, not ${typeof type}`);
    }
    this.#type = type;
  }

  // A function that runs `fn` in the context of now.
  static bind(fn, _type = undefined, self = undefined) {
    checkFunction(fn);
    return bound(getAsyncContext(), fn, self);
  }

  get type() {
    return this.#type;
  }

  bind(fn, self = undefined) {
    checkFunction(fn);
    return bound(this.#context, fn, self);
  }

  runInAsyncScope(fn, self = undefined, ...args) {
    checkFunction(fn);
    return within(this.#context, fn, self, args);
  }

  emitDestroy() {
    return this;
  }

  asyncId() {
    return 0;
  }

  triggerAsyncId() {
    return 0;
  }
}

function bound(context, fn, self) {
  const call = self === undefined
    ? function (...args) {
      return within(context, fn, this, args);
    }
    : (...args) => within(context, fn, self, args);
  ObjectDefineProperty(call, "length", { __proto__: null, value: fn.length, configurable: true });
  return call;
}

const hooks = ObjectFreeze({ __proto__: null, AsyncLocalStorage, AsyncResource });

// Before any guest code.
ObjectDefineProperty(globalThis, "AsyncLocalStorage", core.propNonEnumerable(AsyncLocalStorage));
ObjectDefineProperty(globalThis, HOOKS, { __proto__: null, value: hooks });

return { hooks };
})();
