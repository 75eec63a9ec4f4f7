// Builds the worker realm's global object, once, into the startup snapshot.
//
// Invariant: after `start`, guest code reaches nothing of the runtime but the globals listed here.

import { core, primordials } from "ext:core/mod.js";

const {
  Date,
  DateNow,
  ErrorPrototype,
  MathFloor,
  Number,
  ObjectDefineProperty,
  ObjectGetOwnPropertyDescriptor,
  ObjectHasOwn,
  ObjectPrototypeIsPrototypeOf,
  ObjectSetPrototypeOf,
  Promise,
  PromisePrototypeThen,
  Proxy,
  ReflectConstruct,
  ReflectApply,
  SafeArrayIterator,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeSlice,
  TypeError,
} = primordials;
const {
  op_drain_pending_rejections,
  op_guest_reply,
  op_guest_settings,
  op_guest_uncaught,
  op_set_format_exception_callback,
} = core.ops;

const load = (name) => core.loadExtScript(name);
const webidl = load("ext:deno_webidl/00_webidl.js");
const event = load("ext:deno_web/02_event.js");
const { inspect } = load("ext:stockade_realm/console_format.js");
const url = load("ext:deno_web/00_url.js");
const urlPattern = load("ext:deno_web/01_urlpattern.js");
const { DOMException, QuotaExceededError } = load("ext:deno_web/01_dom_exception.js");
const timers = load("ext:deno_web/02_timers.js");
const abortSignal = load("ext:deno_web/03_abort_signal.js");
load("ext:stockade_realm/abort.js");
const base64 = load("ext:deno_web/05_base64.js");
const streams = load("ext:deno_web/06_streams.js");
const encoding = load("ext:deno_web/08_text_encoding.js");
const file = load("ext:deno_web/09_file.js");
const fileReader = load("ext:deno_web/10_filereader.js");
const messagePort = load("ext:deno_web/13_message_port.js");
const broadcastChannel = load("ext:deno_web/01_broadcast_channel.js");
const compression = load("ext:deno_web/14_compression.js");
const performance = load("ext:deno_web/15_performance.js");
const crypto = load("ext:deno_crypto/00_crypto.js");
const headers = load("ext:deno_fetch/20_headers.js");
const formData = load("ext:deno_fetch/21_formdata.js");
const request = load("ext:deno_fetch/23_request.js");
const response = load("ext:deno_fetch/23_response.js");
load("ext:stockade_realm/async_context.js");
const navigator = load("ext:stockade_realm/navigator.js");
const network = load("ext:stockade_realm/network.js");
const bindings = load("ext:stockade_realm/bindings.js");
const fetch = load("ext:stockade_realm/fetch.js");
const webSocket = load("ext:stockade_realm/websocket.js");
const clone = load("ext:stockade_realm/clone.js");
const guestConsole = load("ext:stockade_realm/console.js");
const serve = load("ext:stockade_realm/serve.js");
const trace = load("ext:stockade_realm/trace.js");
const payload = load("ext:stockade_payload/payload.js");
const wasm = load("ext:stockade_realm/wasm.js");
const targets = load("ext:stockade_realm/targets.js");

const classes = {
  AbortController: abortSignal.AbortController,
  AbortSignal: abortSignal.AbortSignal,
  Blob: file.Blob,
  BroadcastChannel: broadcastChannel.BroadcastChannel,
  ByteLengthQueuingStrategy: streams.ByteLengthQueuingStrategy,
  CloseEvent: event.CloseEvent,
  CompressionStream: compression.CompressionStream,
  CountQueuingStrategy: streams.CountQueuingStrategy,
  Crypto: crypto.Crypto,
  CryptoKey: crypto.CryptoKey,
  CustomEvent: event.CustomEvent,
  DOMException,
  DecompressionStream: compression.DecompressionStream,
  ErrorEvent: event.ErrorEvent,
  Event: event.Event,
  EventTarget: event.EventTarget,
  File: file.File,
  FileReader: fileReader.FileReader,
  FormData: formData.FormData,
  Headers: headers.Headers,
  MessageChannel: messagePort.MessageChannel,
  MessageEvent: event.MessageEvent,
  MessagePort: messagePort.MessagePort,
  Performance: performance.Performance,
  PerformanceEntry: performance.PerformanceEntry,
  PerformanceMark: performance.PerformanceMark,
  PerformanceMeasure: performance.PerformanceMeasure,
  PerformanceObserver: performance.PerformanceObserver,
  PerformanceObserverEntryList: performance.PerformanceObserverEntryList,
  ProgressEvent: event.ProgressEvent,
  PromiseRejectionEvent: event.PromiseRejectionEvent,
  QuotaExceededError,
  ReadableByteStreamController: streams.ReadableByteStreamController,
  ReadableStream: streams.ReadableStream,
  ReadableStreamBYOBReader: streams.ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest: streams.ReadableStreamBYOBRequest,
  ReadableStreamDefaultController: streams.ReadableStreamDefaultController,
  ReadableStreamDefaultReader: streams.ReadableStreamDefaultReader,
  Request: request.Request,
  Response: response.Response,
  SubtleCrypto: crypto.SubtleCrypto,
  TextDecoder: encoding.TextDecoder,
  TextDecoderStream: encoding.TextDecoderStream,
  TextEncoder: encoding.TextEncoder,
  TextEncoderStream: encoding.TextEncoderStream,
  TransformStream: streams.TransformStream,
  TransformStreamDefaultController: streams.TransformStreamDefaultController,
  URL: url.URL,
  URLPattern: urlPattern.URLPattern,
  URLSearchParams: url.URLSearchParams,
  WebSocket: webSocket.WebSocket,
  WritableStream: streams.WritableStream,
  WritableStreamDefaultController: streams.WritableStreamDefaultController,
  WritableStreamDefaultWriter: streams.WritableStreamDefaultWriter,
};
for (const name in classes) {
  ObjectDefineProperty(globalThis, name, core.propNonEnumerable(classes[name]));
}
clone.refuse(classes);

const functions = {
  atob: base64.atob,
  btoa: base64.btoa,
  clearInterval: timers.clearInterval,
  clearTimeout: timers.clearTimeout,
  fetch: fetch.fetch,
  queueMicrotask: primordials.queueMicrotask,
  reportError: event.reportError,
  setInterval: timers.setInterval,
  setTimeout: timers.setTimeout,
  structuredClone: messagePort.structuredClone,
};
for (const name in functions) {
  ObjectDefineProperty(globalThis, name, core.propWritable(functions[name]));
}

ObjectDefineProperty(globalThis, "NETWORK", core.propReadOnly(network.NETWORK));
ObjectDefineProperty(globalThis, "self", core.propGetterOnly(() => globalThis));
ObjectDefineProperty(globalThis, "crypto", core.propGetterOnly(() => crypto.crypto));
ObjectDefineProperty(globalThis, "performance", core.propWritable(performance.performance));
// The engine's own, of no standard; `Intl.Segmenter` does the same.
delete globalThis.Intl.v8BreakIterator;
ObjectDefineProperty(globalThis, webidl.brand, core.propNonEnumerable(webidl.brand));

// The global object's own prototype: what makes it an EventTarget.
class WorkerGlobalScope extends event.EventTarget {
  constructor() {
    webidl.illegalConstructor();
  }
}

// What the errors of ops become: without a builder the engine would throw `undefined`.
const DOM_ERRORS = [
  "Abort",
  "Data",
  "IndexSize",
  "InvalidAccess",
  "InvalidCharacter",
  "InvalidState",
  "NotSupported",
  "Operation",
  "Syntax",
  "TypeMismatch",
];
for (const name of new SafeArrayIterator(DOM_ERRORS)) {
  core.registerErrorBuilder(
    `DOMException${name}Error`,
    (message) => new DOMException(message, `${name}Error`),
  );
}
core.registerErrorBuilder(
  "DOMExceptionQuotaExceededError",
  (message) => new QuotaExceededError(message),
);

// Found here and not on the global object, where a guest may put something else.
const { dispatchEvent } = event.EventTarget.prototype;

// Errors that nothing caught: first the guest's own listeners, then the host.

// `op_dispatch_exception`, where the engine sends what nothing caught, is that same op.

function uncaught(error) {
  op_guest_uncaught(error, true);
}
core.setReportExceptionCallback((error) => event.reportException(error));

// The text of an object that was thrown and is no error, for its message: the engine's own is `#<Object>`.
function describeThrown(thrown) {
  if (typeof thrown !== "object" || thrown === null) return undefined;
  try {
    if (core.isProxy(thrown) || ObjectPrototypeIsPrototypeOf(ErrorPrototype, thrown)) return undefined;
    return inspect(thrown, { __proto__: null, breakLength: Infinity, customInspect: false });
  } catch {
    return undefined;
  }
}

function onUnhandledRejection(promise, reason) {
  const rejection = new event.PromiseRejectionEvent("unhandledrejection", {
    __proto__: null,
    cancelable: true,
    promise,
    reason,
  });
  ReflectApply(dispatchEvent, globalThis, [rejection]);
  if (!rejection.defaultPrevented && !serve.isModuleFailure(reason)) uncaught(reason);
  return true;
}

// Whether the isolate runs code for a result.
let runs = false;

// The JSON text of a result, or an error that says that there is none.
function encodeResult(result) {
  let why;
  if (typeof result === "function" || typeof result === "symbol") {
    why = `it is a ${typeof result}`;
  } else {
    try {
      return payload.encodeValue(result);
    } catch (error) {
      try {
        why = String(error.message);
      } catch {
        why = "it cannot be read";
      }
    }
  }
  throw new TypeError(`the result is not JSON: ${why}; return text, numbers, lists and plain objects`);
}

// Reports what was rejected until now and nothing waits for. The engine would do it at the end of the turn, behind a reply that
// ends the run.
function reportRejections() {
  const rejections = op_drain_pending_rejections();
  if (rejections === undefined) return;
  // Each with its promise, its reason and its asynchronous context.
  for (let i = 0; i < rejections.length; i += 3) onUnhandledRejection(rejections[i], rejections[i + 1]);
}

// Replies to `evaluate` and `call`; `answering` is the call of another site that it replies to.
function reply(id, value, answering = undefined) {
  const done = (result) => {
    if (runs) reportRejections();
    let json;
    try {
      if (answering !== undefined) json = answering.encode(result);
      else json = runs ? encodeResult(result) : payload.encodeValue(result);
    } catch (error) {
      if (runs) op_guest_reply(id, false, "", true, error);
      else failed(error);
      return;
    }
    if (!op_guest_reply(id, true, json ?? "", payload.marked(), undefined)) payload.takeBack(payload.handedOut());
    answering?.over();
  };
  const failed = (error) => {
    if (runs) reportRejections();
    op_guest_reply(id, false, "", false, error);
    answering?.over();
  };
  if (core.isPromise(value)) {
    PromisePrototypeThen(value, done, failed);
  } else if (
    (typeof value === "object" || typeof value === "function") && value !== null && typeof value.then === "function"
  ) {
    PromisePrototypeThen(new Promise((resolve) => resolve(value)), done, failed);
  } else {
    done(value);
  }
}

// What `navigator.userAgent` says to a guest that is not a site.
const USER_AGENT = "Stockade";

// Calls a function of the guest and replies to the call; false where there is none, and the caller of this
// replies. A name that begins with U+0000 is that of an export and of nothing else, see
// `stockade_rpc::EXPORT`; in serve mode a method of the default export comes first, and a call that the host traces has its
// number behind the name.
function call(id, target, name, args, marked) {
  let within;
  try {
    let fn;
    if (StringPrototypeCharCodeAt(name, 0) === 0) {
      name = StringPrototypeSlice(name, 1);
      const number = serve.numberOf(name);
      if (number !== undefined) {
        name = StringPrototypeSlice(name, 0, name.length - number.length - 1);
        within = Number(number);
      }
      const called = serve.callable(name);
      if (called !== undefined) {
        answerCall(id, called, args, marked, within);
        return true;
      }
      if (target !== undefined && ObjectHasOwn(target, name)) fn = target[name];
    } else {
      fn = target?.[name] ?? globalThis[name];
    }
    if (typeof fn !== "function") return false;
    const work = () => ReflectApply(fn, undefined, marked ? payload.revive(args) : args);
    reply(id, within === undefined ? work() : trace.within(within, work));
  } catch (error) {
    op_guest_reply(id, false, "", false, error);
  }
  return true;
}

// Answers a call of another site.
function answerCall(id, { work, scope }, args, marked, within) {
  const answering = new targets.Call(scope);
  let result;
  try {
    const run = () => answering.run(work, () => marked ? payload.revive(args) : args);
    result = within === undefined ? run() : trace.within(within, run);
  } catch (error) {
    op_guest_reply(id, false, "", false, error);
    answering.over();
    return;
  }
  reply(id, result, answering);
}

// Clocks coarser than V8's own millisecond.
function coarsenDate(precisionMs) {
  const now = () => MathFloor(DateNow() / precisionMs) * precisionMs;
  const coarse = new Proxy(Date, {
    __proto__: null,
    construct: (target, args, newTarget) =>
      ReflectConstruct(target, args.length === 0 ? [now()] : args, newTarget),
    apply: () => String(new Date(now())),
  });
  ObjectDefineProperty(Date, "now", { __proto__: null, value: now, writable: true, configurable: true });
  ObjectDefineProperty(Date.prototype, "constructor", {
    __proto__: null,
    value: coarse,
    writable: true,
    configurable: true,
  });
  ObjectDefineProperty(globalThis, "Date", core.propNonEnumerable(coarse));
}

// Shared WebAssembly memory would show the class again.
function hideSharedArrayBuffer(global) {
  delete global.SharedArrayBuffer;
  const prototype = global.WebAssembly?.Memory?.prototype;
  if (prototype === undefined) return;
  const { get } = ObjectGetOwnPropertyDescriptor(prototype, "buffer");
  ObjectDefineProperty(prototype, "buffer", {
    __proto__: null,
    configurable: true,
    enumerable: true,
    get() {
      const buffer = ReflectApply(get, this, []);
      if (core.isSharedArrayBuffer(buffer)) {
        throw new TypeError("shared memory is off for this isolate (sharedArrayBuffer: false)");
      }
      return buffer;
    },
  });
}

// Called once in each isolate when it is made.
function prepare(global = globalThis) {
  ObjectSetPrototypeOf(global, WorkerGlobalScope.prototype);
  event.setEventTargetData(globalThis);
  event.saveGlobalThisReference(globalThis);
  core.setUnhandledPromiseRejectionHandler(onUnhandledRejection);
  op_set_format_exception_callback(describeThrown);
  core.setHandledPromiseRejectionHandler?.((promise, reason) => {
    const handled = new event.PromiseRejectionEvent("rejectionhandled", {
      __proto__: null,
      promise,
      reason,
    });
    ReflectApply(dispatchEvent, globalThis, [handled]);
  });
  core.setWasmStreamingCallback(wasm.receive);
  event.defineEventHandler(globalThis, "error");
  event.defineEventHandler(globalThis, "unhandledrejection");
  event.defineEventHandler(globalThis, "rejectionhandled");
  // The wrapper finds V8's own function on its first call, by looking at the global: before a guest
  // can put something else there.
  primordials.queueMicrotask(() => {});
  const hidden = ["Deno", "__bootstrap", "__stockade"];
  for (const name of new SafeArrayIterator(hidden)) delete globalThis[name];
}

// Called once in each isolate when it is known what it is for, before any guest code.
function start(settings = op_guest_settings()) {
  const serves = serve.configure(settings);
  performance.setTimeOrigin();
  if (!serves) navigator.configure(USER_AGENT);
  const tools = network.configure(settings, serves, bindings.create);
  if (tools !== undefined) {
    runs = true;
    ObjectDefineProperty(globalThis, "tools", core.propReadOnly(tools));
  }
  const prints = settings.console || settings.inspect;
  const console = prints ? guestConsole.capturing(settings.consoleWhole) : guestConsole.silent();
  if (settings.inspect) guestConsole.debugged();
  ObjectDefineProperty(globalThis, "console", core.propNonEnumerable(console));
  if (!settings.sharedArrayBuffer) hideSharedArrayBuffer(globalThis);
  if (settings.timerPrecisionUs > 1000) coarsenDate(settings.timerPrecisionUs / 1000);
}

// Runs what each isolate runs at its start, and most run with their first message. The startup snapshot keeps the
// code of what has run, which each isolate would compile again otherwise; and an isolate that is kept ready has touched
// the memory that its start needs. The arguments are refused, or have the effect that is there already.
function rehearse() {
  const nothing = { __proto__: null };
  event.setEventTargetData({ __proto__: null });
  event.saveGlobalThisReference(globalThis);
  event.defineEventHandler({ __proto__: null }, "error");
  serve.configure({ __proto__: null, env: nothing });
  navigator.configure("");
  network.configure({ __proto__: null, requestTimeoutMs: 0, env: { __proto__: null } }, false);
  guestConsole.capturing(false);
  guestConsole.silent();
  hideSharedArrayBuffer({ __proto__: null });
  payload.encode(0);
  payload.encodeValue(0);
  payload.marked();
  network.dispatchEvent("", nothing, false);
  network.dispatchAnswer(0, false, "", false, "");
  for (const refuses of new SafeArrayIterator([prepare, start, network.NETWORK.send, network.NETWORK.on])) {
    try {
      refuses(null);
    } catch {
      // That is what it is for.
    }
  }
  new url.URL("http://localhost/").pathname;
  const { headers } = new response.Response("", { __proto__: null, headers: { __proto__: null, a: "b" } });
  headers.get("a");
  response.Response.json(nothing);
  new request.Request("http://localhost/").headers;
}
rehearse();

// The runtime takes this object and removes it before it runs guest code.
globalThis.__stockade = {
  __proto__: null,
  call,
  dispatchAnswer: network.dispatchAnswer,
  dispatchControl: network.dispatchControl,
  dispatchEvent: network.dispatchEvent,
  prepare,
  rehearse,
  reply,
  reportException: event.reportException,
  serveMain: serve.main,
  serveMainFailed: serve.mainFailed,
  start,
};
