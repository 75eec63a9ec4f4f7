// The web platform's globals: which global comes from which of Deno's scripts.
//
// Large parts (streams, fetch, WebSocket) are loaded at their first use.

import { core } from "ext:core/mod.js";
import { navigator, Navigator } from "ext:stockade_host/navigator.js";
import { alert, confirm, prompt } from "ext:stockade_host/terminal.js";

const event = core.loadExtScript("ext:deno_web/02_event.js");
const { Console } = core.loadExtScript("ext:deno_web/01_console.js");
const { Window, windowConstructorDescriptor } = core.loadExtScript(
  "ext:deno_web/04_global_interfaces.js",
);
const crypto = core.loadExtScript("ext:deno_crypto/00_crypto.js");
const file = core.loadExtScript("ext:deno_web/09_file.js");
const location = core.loadExtScript("ext:deno_web/12_location.js");
const messagePort = core.loadExtScript("ext:deno_web/13_message_port.js");
const performance = core.loadExtScript("ext:deno_web/15_performance.js");
const timers = core.loadExtScript("ext:deno_web/02_timers.js");
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");

// Classes that are needed early or are small: [where from, names].
const EAGER_CLASSES = [
  [core.loadExtScript("ext:deno_web/03_abort_signal.js"), ["AbortController", "AbortSignal"]],
  [core.loadExtScript("ext:deno_web/01_dom_exception.js"), ["DOMException", "QuotaExceededError"]],
  [core.loadExtScript("ext:deno_web/00_url.js"), ["URL", "URLSearchParams"]],
  [file, ["Blob", "File"]],
  [crypto, ["Crypto", "CryptoKey", "SubtleCrypto"]],
  [messagePort, ["MessageChannel", "MessagePort"]],
  [event, [
    "CloseEvent",
    "CustomEvent",
    "ErrorEvent",
    "Event",
    "EventTarget",
    "MessageEvent",
    "ProgressEvent",
    "PromiseRejectionEvent",
  ]],
  [performance, [
    "Performance",
    "PerformanceEntry",
    "PerformanceMark",
    "PerformanceMeasure",
    "PerformanceObserver",
    "PerformanceObserverEntryList",
  ]],
];

// Classes whose script is loaded when one of them is first read: [specifier, names].
const LAZY_CLASSES = [
  ["ext:deno_web/06_streams.js", [
    "ByteLengthQueuingStrategy",
    "CountQueuingStrategy",
    "ReadableByteStreamController",
    "ReadableStream",
    "ReadableStreamBYOBReader",
    "ReadableStreamBYOBRequest",
    "ReadableStreamDefaultController",
    "ReadableStreamDefaultReader",
    "TransformStream",
    "TransformStreamDefaultController",
    "WritableStream",
    "WritableStreamDefaultController",
    "WritableStreamDefaultWriter",
  ]],
  ["ext:deno_web/08_text_encoding.js", [
    "TextDecoder",
    "TextDecoderStream",
    "TextEncoder",
    "TextEncoderStream",
  ]],
  ["ext:deno_web/14_compression.js", ["CompressionStream", "DecompressionStream"]],
  ["ext:deno_web/10_filereader.js", ["FileReader"]],
  ["ext:deno_web/01_urlpattern.js", ["URLPattern"]],
  ["ext:deno_web/01_broadcast_channel.js", ["BroadcastChannel"]],
  ["ext:deno_web/16_image_data.js", ["ImageData"]],
  ["ext:deno_web/17_geometry.js", [
    "DOMMatrix",
    "DOMMatrixReadOnly",
    "DOMPoint",
    "DOMPointReadOnly",
    "DOMQuad",
    "DOMRect",
    "DOMRectReadOnly",
  ]],
  ["ext:deno_fetch/20_headers.js", ["Headers"]],
  ["ext:deno_fetch/21_formdata.js", ["FormData"]],
  ["ext:deno_fetch/23_request.js", ["Request"]],
  ["ext:deno_fetch/23_response.js", ["Response"]],
];

// The same for modules.
const LAZY_MODULE_CLASSES = [
  ["ext:deno_web/locks.js", ["Lock", "LockManager"]],
  ["ext:deno_websocket/01_websocket.js", ["WebSocket"]],
  ["ext:deno_websocket/02_websocketstream.js", ["WebSocketError", "WebSocketStream"]],
];

const scriptLoader = (specifier) => () => core.loadExtScript(specifier);
const loadBase64 = scriptLoader("ext:deno_web/05_base64.js");
const loadFetch = scriptLoader("ext:deno_fetch/26_fetch.js");

const globals = {
  alert: core.propWritable(alert),
  atob: core.propWritableLazyLoaded((m) => m.atob, loadBase64),
  btoa: core.propWritableLazyLoaded((m) => m.btoa, loadBase64),
  clearInterval: core.propWritable(timers.clearInterval),
  clearTimeout: core.propWritable(timers.clearTimeout),
  confirm: core.propWritable(confirm),
  console: core.propNonEnumerable(
    new Console((text, level) => core.print(text, level > 1)),
  ),
  crypto: core.propGetterOnly(() => crypto.crypto),
  EventSource: core.propWritableLazyLoaded(
    (m) => m.EventSource,
    scriptLoader("ext:deno_fetch/27_eventsource.js"),
  ),
  fetch: core.propWritable(function fetch(input, init = undefined) {
    return loadFetch().fetch(input, init);
  }),
  Location: location.locationConstructorDescriptor,
  location: { writable: true, configurable: true, value: undefined },
  name: core.propWritable(""),
  Navigator: core.propNonEnumerable(Navigator),
  navigator: core.propGetterOnly(() => navigator),
  performance: core.propWritable(performance.performance),
  prompt: core.propWritable(prompt),
  reportError: core.propWritable(event.reportError),
  self: core.propGetterOnly(() => globalThis),
  setInterval: core.propWritable(timers.setInterval),
  setTimeout: core.propWritable(timers.setTimeout),
  structuredClone: core.propWritable(messagePort.structuredClone),
  Window: windowConstructorDescriptor,
  [webidl.brand]: core.propNonEnumerable(webidl.brand),
};

for (const [script, names] of EAGER_CLASSES) {
  for (const name of names) globals[name] = core.propNonEnumerable(script[name]);
}

function addLazy(list, loaderOf) {
  for (const [specifier, names] of list) {
    const load = loaderOf(specifier);
    for (const name of names) {
      globals[name] = core.propNonEnumerableLazyLoaded((m) => m[name], load);
    }
  }
}
addLazy(LAZY_CLASSES, scriptLoader);
addLazy(LAZY_MODULE_CLASSES, core.createLazyLoader);

// At snapshot time: everything that does not depend on the run.
export function defineWebGlobals() {
  core.defineGlobalProperties(globalThis, globals);
  event.setEventTargetData(globalThis);
  event.saveGlobalThisReference(globalThis);
}

// At the start of a run: the global object becomes an event target.
export function startWebGlobals() {
  performance.setTimeOrigin();
  Object.setPrototypeOf(globalThis, Window.prototype);
  for (const name of ["error", "load", "beforeunload", "unload", "unhandledrejection"]) {
    event.defineEventHandler(globalThis, name);
  }
  core.setReportExceptionCallback(event.reportException);
  core.setWasmStreamingCallback((source, rid) => loadFetch().handleWasmStreaming(source, rid));
}

export const dispatchLoad = () => globalThis.dispatchEvent(new event.Event("load"));
export const dispatchUnload = () => globalThis.dispatchEvent(new event.Event("unload"));

// False if a handler asked for the run to go on.
export const dispatchBeforeUnload = () =>
  globalThis.dispatchEvent(new event.Event("beforeunload", { cancelable: true }));

// Both return whether a handler took care of the rejection.
export function dispatchUnhandledRejection(promise, reason) {
  const rejection = new event.PromiseRejectionEvent("unhandledrejection", {
    cancelable: true,
    promise,
    reason,
  });
  globalThis.dispatchEvent(rejection);
  return rejection.defaultPrevented;
}

export function dispatchRejectionHandled(promise, reason) {
  globalThis.dispatchEvent(
    new event.PromiseRejectionEvent("rejectionhandled", { promise, reason }),
  );
}
