// `EventSource`, over the `fetch` of the realm (https://html.spec.whatwg.org/#server-sent-events).
//
// What a stream sends is the guest's to hold, within its memory: a line and the data of an event have no bound of
// their own.

(function () {
const { core, primordials } = __bootstrap;
const {
  MathMax,
  MathMin,
  Number,
  ObjectDefineProperties,
  ObjectSetPrototypeOf,
  PromisePrototypeThen,
  RegExpPrototypeExec,
  SafeRegExp,
  String,
  StringFromCharCode,
  StringPrototypeCharCodeAt,
  StringPrototypeIncludes,
  StringPrototypeIndexOf,
  StringPrototypeSlice,
  StringPrototypeToLowerCase,
  StringPrototypeTrim,
  Symbol,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const { defineEventHandler, Event, EventTarget, MessageEvent, setIsTrusted } = core.loadExtScript(
  "ext:deno_web/02_event.js",
);
const { AbortController } = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const { acquireReadableStreamDefaultReader } = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextDecoder } = core.loadExtScript("ext:deno_web/08_text_encoding.js");
const { fetch } = core.loadExtScript("ext:stockade_realm/fetch.js");

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 2;

// Until the server names another time; doubled after each attempt that fails, up to a number of times.
const RETRY_MS = 3000;
const MAX_DOUBLINGS = 5;
const MAX_RETRY_MS = 2 ** 31 - 1;

// Whatever a server asks for.
const MIN_RETRY_MS = 500;

const DIGITS = new SafeRegExp("^[0-9]+$");

const _url = Symbol("url");
const _state = Symbol("readyState");
const _credentials = Symbol("withCredentials");
const _source = Symbol("source");

// Cuts text at U+000A, U+000D or both.
class Lines {
  constructor(take) {
    this.take = take;
    this.rest = "";
    this.afterReturn = false;
  }

  push(text) {
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code === 10 && this.afterReturn) {
        start = i + 1;
      } else if (code === 10 || code === 13) {
        const line = this.rest + StringPrototypeSlice(text, start, i);
        this.rest = "";
        start = i + 1;
        this.take(line);
      }
      this.afterReturn = code === 13;
    }
    this.rest += StringPrototypeSlice(text, start);
  }
}
ObjectSetPrototypeOf(Lines.prototype, null);

// What is open between an EventSource and its server.
class Source {
  constructor(target) {
    this.target = target;
    this.retryMs = RETRY_MS;
    this.failures = 0;
    this.lastEventId = "";
    this.abort = undefined;
    this.reader = undefined;
    this.timer = undefined;
  }

  connect() {
    this.timer = undefined;
    this.abort = new AbortController();
    const headers = { __proto__: null, accept: "text/event-stream", "cache-control": "no-cache" };
    if (this.lastEventId !== "") headers["last-event-id"] = asBytes(this.lastEventId);
    const asked = fetch(this.target[_url], { __proto__: null, headers, signal: this.abort.signal });
    PromisePrototypeThen(asked, (response) => this.opened(response), () => this.again());
  }

  opened(response) {
    const { target } = this;
    if (target[_state] === CLOSED) {
      if (response.body !== null) PromisePrototypeThen(response.body.cancel(), undefined, () => {});
      return;
    }
    if (response.status !== 200 || !isEventStream(response.headers.get("content-type"))) {
      this.close();
      fire(target, new Event("error"));
      return;
    }
    target[_state] = OPEN;
    this.failures = 0;
    fire(target, new Event("open"));
    if (response.body === null) this.again();
    else {
      this.reader = acquireReadableStreamDefaultReader(response.body);
      this.read(this.reader, new URL(response.url).origin);
    }
  }

  read(reader, origin) {
    const decoder = new TextDecoder();
    const event = { __proto__: null, type: "", data: "", id: this.lastEventId, origin };
    const lines = new Lines((line) => this.line(line, event));
    const next = () =>
      PromisePrototypeThen(reader.read(), ({ done, value }) => {
        if (this.target[_state] === CLOSED) return;
        if (done) {
          this.again();
        } else {
          lines.push(decoder.decode(value, { __proto__: null, stream: true }));
          next();
        }
      }, () => this.again());
    next();
  }

  line(line, event) {
    if (this.target[_state] === CLOSED) return;
    if (line === "") {
      this.dispatch(event);
      return;
    }
    const colon = StringPrototypeIndexOf(line, ":");
    if (colon === 0) return;
    const field = colon === -1 ? line : StringPrototypeSlice(line, 0, colon);
    let value = colon === -1 ? "" : StringPrototypeSlice(line, colon + 1);
    if (value !== "" && StringPrototypeCharCodeAt(value, 0) === 32) {
      value = StringPrototypeSlice(value, 1);
    }
    switch (field) {
      case "event":
        event.type = value;
        break;
      case "data":
        event.data += value + "\n";
        break;
      case "id":
        if (!StringPrototypeIncludes(value, "\0")) event.id = value;
        break;
      case "retry":
        if (RegExpPrototypeExec(DIGITS, value) !== null) {
          this.retryMs = MathMax(MIN_RETRY_MS, Number(value));
        }
        break;
    }
  }

  dispatch(event) {
    const { type, data, origin } = event;
    this.lastEventId = event.id;
    event.type = "";
    event.data = "";
    if (data === "") return;
    const message = new MessageEvent(type === "" ? "message" : type, {
      __proto__: null,
      data: StringPrototypeSlice(data, 0, -1),
      lastEventId: this.lastEventId,
      origin,
    });
    fire(this.target, message);
  }

  // The connection is gone: another one, after a while.
  again() {
    const { target } = this;
    if (target[_state] === CLOSED) return;
    target[_state] = CONNECTING;
    this.reader = undefined;
    fire(target, new Event("error"));
    if (target[_state] === CLOSED) return;
    const wait = MathMin(this.retryMs * 2 ** MathMin(this.failures, MAX_DOUBLINGS), MAX_RETRY_MS);
    this.failures++;
    this.timer = core.createTimer(() => this.connect(), wait, undefined, false, true, true);
  }

  close() {
    this.target[_state] = CLOSED;
    if (this.timer !== undefined) core.cancelTimer(this.timer);
    this.timer = undefined;
    this.abort.abort();
    if (this.reader !== undefined) {
      PromisePrototypeThen(this.reader.cancel(), undefined, () => {});
    }
  }
}
ObjectSetPrototypeOf(Source.prototype, null);

function fire(target, event) {
  setIsTrusted(event, true);
  target.dispatchEvent(event);
}

function isEventStream(type) {
  if (type === null) return false;
  const end = StringPrototypeIndexOf(type, ";");
  const essence = end === -1 ? type : StringPrototypeSlice(type, 0, end);
  return StringPrototypeToLowerCase(StringPrototypeTrim(essence)) === "text/event-stream";
}

// The text as UTF-8, as a header carries it: a character for each byte.
function asBytes(text) {
  const bytes = core.encode(text);
  let value = "";
  for (let i = 0; i < bytes.length; i++) value += StringFromCharCode(bytes[i]);
  return value;
}

class EventSource extends EventTarget {
  constructor(url, init = undefined) {
    super();
    const prefix = "Failed to construct 'EventSource'";
    webidl.requiredArguments(arguments.length, 1, prefix);
    this[webidl.brand] = webidl.brand;
    try {
      this[_url] = new URL(webidl.converters.USVString(url, prefix, "Argument 1")).href;
    } catch (error) {
      throw new DOMException(String(error.message), "SyntaxError");
    }
    this[_credentials] = !!init?.withCredentials;
    this[_state] = CONNECTING;
    this[_source] = new Source(this);
    this[_source].connect();
  }

  get url() {
    webidl.assertBranded(this, EventSourcePrototype);
    return this[_url];
  }

  get withCredentials() {
    webidl.assertBranded(this, EventSourcePrototype);
    return this[_credentials];
  }

  get readyState() {
    webidl.assertBranded(this, EventSourcePrototype);
    return this[_state];
  }

  close() {
    webidl.assertBranded(this, EventSourcePrototype);
    if (this[_state] !== CLOSED) this[_source].close();
  }
}

const constant = (value) => ({ __proto__: null, value, enumerable: true });
const constants = {
  __proto__: null,
  CONNECTING: constant(CONNECTING),
  OPEN: constant(OPEN),
  CLOSED: constant(CLOSED),
};
ObjectDefineProperties(EventSource, constants);
ObjectDefineProperties(EventSource.prototype, constants);
defineEventHandler(EventSource.prototype, "open");
defineEventHandler(EventSource.prototype, "message");
defineEventHandler(EventSource.prototype, "error");
webidl.configureInterface(EventSource);
const EventSourcePrototype = EventSource.prototype;

return { EventSource };
})();
