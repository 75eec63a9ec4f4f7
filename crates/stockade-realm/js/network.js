// `NETWORK`: how a guest talks to its host.
//
// The host's runtime calls `dispatch*`; nothing that a guest can reach calls them.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_guest_chunk,
  op_guest_collect,
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
  StringPrototypeIncludes,
  StringPrototypeIndexOf,
  StringPrototypeIsWellFormed,
  StringPrototypeSlice,
  StringPrototypeSplit,
  SymbolToStringTag,
  TypeError,
} = primordials;
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const streamsOfPeer = core.loadExtScript("ext:stockade_payload/streams.js");
const event = core.loadExtScript("ext:deno_web/02_event.js");
const time = core.loadExtScript("ext:stockade_realm/time.js");

const handlers = new SafeMap(); // event -> set of functions
const pending = new SafeMap(); // request id -> { method, resolve, reject, timer, here, decode }
const internal = new SafeMap(); // event -> function of the runtime itself
const controls = new SafeMap(); // control name -> function
let nextRequest = 1;
let requestTimeoutMs = 0;
let serving = false;
let env = ObjectFreeze({ __proto__: null });

const streams = streamsOfPeer.create(control, {
  __proto__: null,
  collect: op_guest_collect,
  sendChunk: op_guest_chunk,
});
payload.connectStreams(streams);

// In their place while data is revived of which nobody reads the streams.
const unread = {
  __proto__: null,
  ...streams,
  importStream: (id) => streams.discard(streams.importStream(id)),
};

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
  try {
    op_guest_send(name, json ?? "", payload.marked());
  } catch (error) {
    payload.takeBack(payload.handedOut());
    throw error;
  }
}

function control(name, data) {
  const json = payload.encode(data);
  op_guest_control(name, json ?? "", payload.marked());
}

// Sends a request; `onId` gets its id, for cancelling. `here` is where the guest asked: an error that was made there.
// `decode` makes its value of the data and whether there are marks in it.
function startRequest(
  method,
  data,
  onId = undefined,
  here = new Error(),
  encode = payload.encode,
  decode = revived,
) {
  const json = encode(data);
  const marked = payload.marked();
  const id = nextRequest++;
  return new Promise((resolve, reject) => {
    const entry = { __proto__: null, method, resolve, reject, timer: undefined, here, decode };
    try {
      op_guest_request(id, method, json ?? "", marked);
    } catch (error) {
      payload.takeBack(payload.handedOut());
      throw error;
    }
    if (requestTimeoutMs > 0) {
      entry.timer = time.after(requestTimeoutMs, () => {
        if (MapPrototypeDelete(pending, id)) {
          control("request.cancel", { __proto__: null, id });
          reject(refusal(entry, "", `no answer to '${method}' within ${requestTimeoutMs} ms`));
        }
      }, true);
    }
    MapPrototypeSet(pending, id, entry);
    onId?.(id);
  });
}

function revived(data, marked) {
  return marked ? payload.revive(data) : data;
}

function cancelRequest(id) {
  const entry = MapPrototypeGet(pending, id);
  if (entry === undefined) return;
  MapPrototypeDelete(pending, id);
  entry.timer?.cancel();
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

function dispatchAnswer(id, ok, data, marked, errorName, errorCode) {
  const entry = MapPrototypeGet(pending, id);
  if (entry === undefined) {
    if (ok && marked) discard(data);
    return;
  }
  MapPrototypeDelete(pending, id);
  entry.timer?.cancel();
  if (!ok) {
    streams.refused();
    const named = serving || entry.method === "binding.call" || entry.method === "binding.open" ||
      StringPrototypeSlice(entry.method, 0, 5) === "tool:";
    entry.reject(refusal(entry, named ? errorName : "", data, errorCode));
    return;
  }
  let value;
  try {
    value = entry.decode(data, marked);
  } catch (error) {
    entry.reject(error);
    return;
  }
  entry.resolve(value);
}

// An answer that nobody waits for any more: its streams have owners that would wait for a reader.
function discard(data) {
  payload.connectStreams(unread);
  try {
    payload.revive(data);
  } finally {
    payload.connectStreams(streams);
  }
}

// Why a request has no answer. A name that the host gives is meant for the guest; `fetch` fails with a
// TypeError, whatever its name is. Where in the host it was is the host's own affair.
function refusal(entry, name, message, code = "") {
  const fetches = entry.method === "fetch" || entry.method === "binding.fetch";
  const error = fetches || name === "TypeError"
    ? new TypeError(message)
    : name === "RangeError"
    ? new RangeError(message)
    : new Error(message);
  let shown = fetches ? "TypeError" : "Error";
  if (name !== "" && name !== "Error") {
    shown = name;
    if (name !== "TypeError" && name !== "RangeError") define(error, "name", name);
  }
  if (code !== "") {
    // As the errors of drivers and of Node have it.
    ObjectDefineProperty(error, "code", {
      __proto__: null,
      value: code,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
  define(error, "stack", `${shown}: ${message}${framesOf(entry.here)}`);
  return error;
}

function define(error, key, value) {
  ObjectDefineProperty(error, key, {
    __proto__: null,
    value,
    configurable: true,
    enumerable: false,
    writable: true,
  });
}

// The guest's own frames of an error that was made where the guest asked for something, as lines of a stack.
function framesOf(here) {
  let stack;
  try {
    stack = here.stack;
  } catch {
    // A function of the guest's makes stacks.
  }
  if (typeof stack !== "string") return "";
  const lines = StringPrototypeSplit(stack, "\n");
  let frames = "";
  for (let i = 1; i < lines.length; i++) {
    if (!StringPrototypeIncludes(lines[i], "ext:") && lines[i] !== "    at new Promise (<anonymous>)") {
      frames += `\n${lines[i]}`;
    }
  }
  return frames;
}

// Gives an error of the runtime the place where the guest asked for what failed.
function placeError(error, here) {
  let first = "";
  try {
    first = StringPrototypeSplit(error.stack, "\n    at ")[0];
  } catch {
    return;
  }
  define(error, "stack", `${first}${framesOf(here)}`);
}

function dispatchControl(name, data, marked) {
  if (marked) data = payload.revive(data);
  const own = MapPrototypeGet(controls, name);
  if (own !== undefined) own(data);
  else streams.receive(name, data);
}

// In serve mode `env` is the handlers' and not here. `createBinding(name, kind)` makes the object of a grant. Returns the
// guest's `tools` if the isolate runs code for a result.
function configure(settings, serves, createBinding) {
  requestTimeoutMs = settings.requestTimeoutMs;
  serving = serves;
  if (serving) {
    payload.carryExactly();
    return;
  }
  const tools = takeTools(settings.env);
  putFunctions(settings.env);
  putBindings(settings.env, createBinding);
  env = deepFreeze(settings.env);
  return tools;
}

// Where `env` says that the isolate runs code for a result, with the names of the host's tools. Written by
// `stockade::run`, read by `stockade_isolate::script` too.
const RUN = "\0run";

// The functions of the host by their names.
function takeTools(env) {
  if (!ObjectHasOwn(env, RUN)) return undefined;
  const names = env[RUN].tools;
  ReflectDeleteProperty(env, RUN);
  const tools = { __proto__: null };
  const groups = [];
  for (let i = 0; i < names.length; i++) {
    const method = `tool:${names[i]}`;
    const tool = (input) => new Promise((resolve) => resolve(startRequest(method, input)));
    ObjectDefineProperty(tool, "name", { __proto__: null, value: names[i] });
    putTool(tools, groups, names[i], ObjectFreeze(tool));
  }
  for (let i = 0; i < groups.length; i++) ObjectFreeze(groups[i]);
  return ObjectFreeze(tools);
}

// `list` is `tools.list`, and `shop.list` is `tools.shop.list` unless there is a tool `shop`.
function putTool(tools, groups, name, tool) {
  const dot = StringPrototypeIndexOf(name, ".");
  const group = dot > 0 ? StringPrototypeSlice(name, 0, dot) : name;
  let place = tools;
  if (dot > 0 && !ObjectHasOwn(tools, group)) {
    place = { __proto__: null };
    groups[groups.length] = place;
    ObjectDefineProperty(tools, group, { __proto__: null, value: place, enumerable: true });
  } else if (dot > 0 && typeof tools[group] === "object") {
    place = tools[group];
  }
  const key = place === tools ? name : StringPrototypeSlice(name, dot + 1);
  ObjectDefineProperty(place, key, { __proto__: null, value: tool, enumerable: true });
}

// Where `env` lists the functions that the host has put into it: paths, each a list of keys. The host
// lets no key of the user begin with U+0000. Written by `stockade_host/env.js` and `stockade::env`.
const FUNCTIONS = "\0functions";

// Where `env` lists what the guest is granted: names, each with its kind. Written by `stockade_grants`.
const BINDINGS = "\0bindings";

function putBindings(env, create) {
  if (!ObjectHasOwn(env, BINDINGS)) return;
  const bindings = env[BINDINGS];
  ReflectDeleteProperty(env, BINDINGS);
  for (const name in bindings) {
    if (!ObjectHasOwn(bindings, name)) continue;
    ObjectDefineProperty(env, name, {
      __proto__: null,
      value: create(name, bindings[name].kind, bindings[name].details),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
}

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
  placeError,
  putFunctions,
  send,
  startRequest,
  streams,
};
})();
