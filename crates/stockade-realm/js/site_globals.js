// The globals that a site has and other guests have not.

(function () {
const { core, primordials } = __bootstrap;
const {
  ObjectDefineProperty,
  ObjectFreeze,
  ObjectGetOwnPropertyDescriptor,
  ObjectKeys,
  Promise,
  ReflectConstruct,
  SafeArrayIterator,
  SymbolFor,
  TypedArrayPrototypeGetByteLength,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { RequestPrototype, toInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { ResponsePrototype } = core.loadExtScript("ext:deno_fetch/23_response.js");
const { EventSource } = core.loadExtScript("ext:stockade_realm/event_source.js");
const { SubtleCrypto } = core.loadExtScript("ext:deno_crypto/00_crypto.js");
const abort = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const { hooks } = core.loadExtScript("ext:stockade_realm/async_context.js");
const navigator = core.loadExtScript("ext:stockade_realm/navigator.js");
const { FixedLengthStream, IdentityTransformStream } = core.loadExtScript(
  "ext:stockade_realm/site_streams.js",
);
const { HTMLRewriter } = core.loadExtScript("ext:stockade_realm/html_rewriter.js");
const sockets = core.loadExtScript("ext:stockade_realm/sockets.js");
const time = core.loadExtScript("ext:stockade_realm/time.js");
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

// The name by which libraries know that handlers have the form of Workers.
const USER_AGENT = "Cloudflare-Workers";

// Where the modules "cloudflare:workers" and "cloudflare:sockets" find what they export, see `stockade_isolate::modules`.
const WORKERS = SymbolFor("cloudflare:workers");
const SOCKETS = SymbolFor("cloudflare:sockets");

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

class Scheduler {
  constructor() {
    webidl.illegalConstructor();
  }

  // Resolves after a number of milliseconds, or rejects when the signal aborts.
  wait(milliseconds, options = undefined) {
    return new Promise((resolve, reject) => {
      const prefix = "Failed to execute 'wait' on 'Scheduler'";
      webidl.requiredArguments(arguments.length, 1, prefix);
      const ms = webidl.converters["unrestricted double"](milliseconds, prefix, "Argument 1");
      const given = options?.signal;
      const signal = given === undefined || given === null
        ? undefined
        : webidl.converters.AbortSignal(given, prefix, "'signal' of Argument 2");
      if (signal !== undefined && signal.aborted) throw signal.reason;
      let onAbort;
      const timer = time.after(ms > 0 ? ms : 0, () => {
        if (signal !== undefined) signal[abort.remove](onAbort);
        resolve();
      }, true);
      onAbort = () => {
        timer.cancel();
        reject(signal.reason);
      };
      if (signal !== undefined) signal[abort.add](onAbort);
    });
  }
}
webidl.configureInterface(Scheduler);

const cryptography = {
  // Whether two pieces of as many bytes are the same, in a time that does not show where they differ.
  timingSafeEqual(a, b) {
    webidl.assertBranded(this, SubtleCrypto.prototype);
    webidl.requiredArguments(arguments.length, 2, "Failed to execute 'timingSafeEqual' on 'SubtleCrypto'");
    const left = bytesOf(a);
    const right = bytesOf(b);
    const length = TypedArrayPrototypeGetByteLength(left);
    if (TypedArrayPrototypeGetByteLength(right) !== length) {
      throw new TypeError("timingSafeEqual compares two pieces of as many bytes");
    }
    let difference = 0;
    for (let i = 0; i < length; i++) difference |= left[i] ^ right[i];
    return difference === 0;
  },
};

function bytesOf(value) {
  const data = typeof value === "object" && value !== null ? toData(value) : undefined;
  if (typeof data !== "object") throw new TypeError("timingSafeEqual compares ArrayBuffers and views of them");
  return data;
}

// Of Node's `process` there is what libraries find the module with, without importing it. Its `env` and `versions`
// are empty: a library that looks for Node finds none.
function makeProcess() {
  return {
    env: {},
    versions: {},
    getBuiltinModule(id) {
      if (typeof id !== "string") throw new TypeError(`the id of a module must be a string, not ${typeof id}`);
      return id === "node:async_hooks" || id === "async_hooks" ? hooks : undefined;
    },
  };
}

// Before any guest code. `workers` is what "cloudflare:workers" exports, `connections` what "cloudflare:sockets" does.
function install(workers, connections) {
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
  ObjectDefineProperty(globalThis, "EventSource", core.propNonEnumerable(EventSource));
  ObjectDefineProperty(globalThis, "WebSocketPair", core.propNonEnumerable(sockets.WebSocketPair));
  ObjectDefineProperty(globalThis, "HTMLRewriter", core.propNonEnumerable(HTMLRewriter));
  navigator.configure(USER_AGENT);
  ObjectDefineProperty(globalThis, "FixedLengthStream", core.propNonEnumerable(FixedLengthStream));
  ObjectDefineProperty(
    globalThis,
    "IdentityTransformStream",
    core.propNonEnumerable(IdentityTransformStream),
  );
  ObjectDefineProperty(globalThis, "Scheduler", core.propNonEnumerable(Scheduler));
  const scheduler = webidl.createBranded(Scheduler);
  ObjectDefineProperty(globalThis, "scheduler", core.propGetterOnly(() => scheduler));
  ObjectDefineProperty(
    SubtleCrypto.prototype,
    "timingSafeEqual",
    core.propWritable(cryptography.timingSafeEqual),
  );
  ObjectDefineProperty(globalThis, "process", core.propNonEnumerable(makeProcess()));
  ObjectDefineProperty(globalThis, "global", core.propNonEnumerable(globalThis));
  ObjectDefineProperty(globalThis, WORKERS, {
    __proto__: null,
    value: ObjectFreeze(workers),
  });
  ObjectDefineProperty(globalThis, SOCKETS, {
    __proto__: null,
    value: ObjectFreeze(connections),
  });
  delete globalThis.NETWORK;
}

return { install };
})();
