// `NETWORK`: how a guest talks to its host.
//
// The host's runtime calls `dispatch*`; nothing that a guest can reach calls them.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_guest_control,
  op_guest_listen,
  op_guest_request,
  op_guest_send,
} = core.ops;
const {
  ArrayPrototypeJoin,
  Error,
  ErrorPrototype,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperty,
  ObjectFreeze,
  ObjectHasOwn,
  ObjectPrototypeIsPrototypeOf,
  Promise,
  RangeError,
  ReflectDeleteProperty,
  SafeMap,
  SafeSet,
  SafeSetIterator,
  SetPrototypeAdd,
  SetPrototypeDelete,
  SetPrototypeGetSize,
  StringPrototypeIsWellFormed,
  SymbolToStringTag,
  TypeError,
} = primordials;
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const streamsOfPeer = core.loadExtScript("ext:stockade_payload/streams.js");
const event = core.loadExtScript("ext:deno_web/02_event.js");

const handlers = new SafeMap(); // event -> set of functions
const pending = new SafeMap(); // request id -> { resolve, reject, timer }
const internal = new SafeMap(); // event -> function of the runtime itself
const controls = new SafeMap(); // control name -> function
let nextRequest = 1;
let requestTimeoutMs = 0;
let serving = false;
let env = ObjectFreeze({ __proto__: null });

const streams = streamsOfPeer.create(control);
payload.connectStreams(streams);

function checkName(name, what) {
  if (typeof name !== "string") {
    throw new TypeError(`the ${what} must be a string, not ${typeof name}`);
  }
  if (!StringPrototypeIsWellFormed(name)) {
    throw new TypeError(
      `the ${what} must be Unicode text, and half a surrogate pair is none: toWellFormed() replaces it`,
    );
  }
}

function checkHandler(handler) {
  if (typeof handler !== "function") {
    throw new TypeError(`the handler must be a function, not ${typeof handler}`);
  }
}

function send(name, data) {
  checkName(name, "event");
  const json = payload.encode(data);
  op_guest_send(name, json ?? "", payload.marked());
}

function control(name, data) {
  const json = payload.encode(data);
  op_guest_control(name, json ?? "", payload.marked());
}

// Sends a request; `onId` hears its id, for cancelling.
function startRequest(method, data, onId = undefined, encode = payload.encode) {
  const json = encode(data);
  const marked = payload.marked();
  const id = nextRequest++;
  return new Promise((resolve, reject) => {
    const entry = { __proto__: null, resolve, reject, timer: undefined };
    op_guest_request(id, method, json ?? "", marked);
    if (requestTimeoutMs > 0) {
      entry.timer = core.createTimer(
        () => {
          if (MapPrototypeDelete(pending, id)) {
            control("request.cancel", { __proto__: null, id });
            reject(new Error(`no answer to '${method}' within ${requestTimeoutMs} ms`));
          }
        },
        requestTimeoutMs,
        undefined,
        false,
        true,
        true,
      );
    }
    MapPrototypeSet(pending, id, entry);
    onId?.(id);
  });
}

function cancelRequest(id) {
  const entry = MapPrototypeGet(pending, id);
  if (entry === undefined) return;
  MapPrototypeDelete(pending, id);
  if (entry.timer !== undefined) core.cancelTimer(entry.timer);
  control("request.cancel", { __proto__: null, id });
}

const NETWORK = {
  send(name, data) {
    send(name, data);
  },
  // Not an async function: a bad argument throws where it is made, as a rejection.
  request(method, data) {
    return new Promise((resolve) => {
      checkName(method, "method");
      resolve(startRequest(method, data));
    });
  },
  on(name, handler) {
    checkName(name, "event");
    checkHandler(handler);
    let set = MapPrototypeGet(handlers, name);
    if (set === undefined) {
      set = new SafeSet();
      MapPrototypeSet(handlers, name, set);
    }
    SetPrototypeAdd(set, handler);
    op_guest_listen(name);
    return NETWORK;
  },
  off(name, handler) {
    checkName(name, "event");
    const set = MapPrototypeGet(handlers, name);
    if (set !== undefined) {
      if (handler === undefined) MapPrototypeDelete(handlers, name);
      else if (SetPrototypeDelete(set, handler) && SetPrototypeGetSize(set) === 0) {
        MapPrototypeDelete(handlers, name);
      }
    }
    return NETWORK;
  },
  get env() {
    return env;
  },
  [SymbolToStringTag]: "NETWORK",
};

// Whether anyone took the event.
function dispatchEvent(name, data, marked) {
  const own = MapPrototypeGet(internal, name);
  const set = MapPrototypeGet(handlers, name);
  if (own === undefined && set === undefined) return false;
  if (marked) data = payload.revive(data);
  if (own !== undefined) {
    own(data);
    return true;
  }
  for (const handler of new SafeSetIterator(set)) {
    try {
      handler(data);
    } catch (error) {
      event.reportException(error);
    }
  }
  return true;
}

function dispatchAnswer(id, ok, data, marked, errorName) {
  const entry = MapPrototypeGet(pending, id);
  if (entry === undefined) return;
  MapPrototypeDelete(pending, id);
  if (entry.timer !== undefined) core.cancelTimer(entry.timer);
  if (ok) {
    entry.resolve(marked ? payload.revive(data) : data);
  } else {
    entry.reject(serving ? namedError(errorName, data) : plainError(data));
  }
}

// What a handler of the host threw: where it was is the host's own affair.
function plainError(message) {
  const error = new Error(message);
  error.stack = `Error: ${message}`;
  return error;
}

// A refusal, in serve mode: its name is meant for the guest.
function namedError(name, message) {
  if (name === "TypeError") return new TypeError(message);
  if (name === "RangeError") return new RangeError(message);
  const error = new Error(message);
  if (name !== "" && name !== "Error") {
    ObjectDefineProperty(error, "name", {
      __proto__: null,
      value: name,
      configurable: true,
      writable: true,
    });
  }
  return error;
}

function dispatchControl(name, data, marked) {
  if (marked) data = payload.revive(data);
  const own = MapPrototypeGet(controls, name);
  if (own !== undefined) own(data);
  else streams.receive(name, data);
}

// In serve mode `env` is the handlers' and not here.
function configure(settings, serves) {
  requestTimeoutMs = settings.requestTimeoutMs;
  serving = serves;
  if (serving) {
    payload.carryExactly();
    return;
  }
  putFunctions(settings.env);
  env = deepFreeze(settings.env);
}

// Where `env` lists the functions that the host has put into it: paths, each a list of keys. The host
// lets no key of the user begin with U+0000. Written by `stockade_host/env.js` and `stockade::env`.
const FUNCTIONS = "\0functions";

function putFunctions(env) {
  if (!ObjectHasOwn(env, FUNCTIONS)) return;
  const paths = env[FUNCTIONS];
  ReflectDeleteProperty(env, FUNCTIONS);
  for (let i = 0; i < paths.length; i++) putFunction(env, paths[i]);
}

function putFunction(env, path) {
  const last = path.length - 1;
  let holder = env;
  for (let i = 0; i < last; i++) {
    if (!ObjectHasOwn(holder, path[i])) return;
    holder = holder[path[i]];
    if (typeof holder !== "object" || holder === null) return;
  }
  ObjectDefineProperty(holder, path[last], {
    __proto__: null,
    value: hostFunction(ArrayPrototypeJoin(path, "."), path[last]),
    enumerable: true,
    writable: true,
    configurable: true,
  });
}

// A request whose data are the arguments. Bad ones reject, they do not throw.
function hostFunction(path, name) {
  const method = `env:${path}`;
  const fn = (...args) => new Promise((resolve) => resolve(startRequest(method, args)));
  ObjectDefineProperty(fn, "name", { __proto__: null, value: name });
  return ObjectFreeze(fn);
}

function deepFreeze(value) {
  if (typeof value === "object" && value !== null) {
    for (const key in value) deepFreeze(value[key]);
    ObjectFreeze(value);
  }
  return value;
}

function isError(value) {
  return ObjectPrototypeIsPrototypeOf(ErrorPrototype, value);
}

return {
  cancelRequest,
  configure,
  control,
  controls,
  dispatchAnswer,
  dispatchControl,
  dispatchEvent,
  internal,
  isError,
  NETWORK,
  send,
  startRequest,
  streams,
};
})();
