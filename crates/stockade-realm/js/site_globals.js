// The globals that a site has and other guests have not.

(function () {
const { core, primordials } = __bootstrap;
const {
  ObjectDefineProperty,
  ObjectFreeze,
  ObjectGetOwnPropertyDescriptor,
  ObjectKeys,
  ReflectConstruct,
  SafeArrayIterator,
  SymbolFor,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { RequestPrototype, toInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { ResponsePrototype } = core.loadExtScript("ext:deno_fetch/23_response.js");
const { EventSource } = core.loadExtScript("ext:stockade_realm/event_source.js");
const sockets = core.loadExtScript("ext:stockade_realm/sockets.js");

// Begins with the name by which libraries tell that handlers have the form of Workers.
const USER_AGENT = "Cloudflare-Workers (compatible; Stockade)";

// Where the module "cloudflare:workers" finds what it exports, see `stockade_isolate::modules`.
const WORKERS = SymbolFor("cloudflare:workers");

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

// Before any guest code. `workers` is what "cloudflare:workers" exports.
function install(workers) {
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
  ObjectDefineProperty(globalThis, "Navigator", core.propNonEnumerable(Navigator));
  const navigator = webidl.createBranded(Navigator);
  ObjectDefineProperty(globalThis, "navigator", core.propGetterOnly(() => navigator));
  ObjectDefineProperty(globalThis, WORKERS, {
    __proto__: null,
    value: ObjectFreeze(workers),
  });
  delete globalThis.NETWORK;
}

return { install };
})();
