// `Isolate`: what a host script holds of a guest.
//
// Data comes from the guest and is data only: it was parsed from JSON by the engine.

import { core } from "ext:core/mod.js";
import {
  op_host_is_pending,
  op_isolate_answer,
  op_isolate_call,
  op_isolate_control,
  op_isolate_cpu_profile,
  op_isolate_destroy,
  op_isolate_drain,
  op_isolate_evaluate,
  op_isolate_execute,
  op_isolate_handle_event,
  op_isolate_handle_method,
  op_isolate_heap_snapshot,
  op_isolate_heap_statistics,
  op_isolate_hold,
  op_isolate_ignore_event,
  op_isolate_let_go,
  op_isolate_ready,
  op_isolate_reject,
  op_isolate_send,
  op_isolate_stats,
  op_isolate_take,
  op_isolate_unstash,
  op_isolate_withdraw,
} from "ext:core/ops";
import { callFunction } from "ext:stockade_host/env.js";
import { fetchFrom, listen } from "ext:stockade_host/server.js";
import { allowWebSocket } from "ext:stockade_host/sockets.js";

const { pathFromURL } = core.loadExtScript("ext:deno_web/00_infra.js");
const { reportException } = core.loadExtScript("ext:deno_web/02_event.js");
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const { create: createStreams } = core.loadExtScript("ext:stockade_payload/streams.js");

// Only this realm makes isolates.
export const MADE_HERE = Symbol("made here");

// Errors without a handler that are kept for one that comes later, and the characters of their texts. How an
// isolate ended is always kept.
// Streams that an honest guest has handed out at once, at most.
const MAX_STREAMS = 1024;

const MAX_ERRORS_KEPT = 64;
const MAX_ERRORS_LENGTH = 256 * 1024;
const SYSTEM_EVENTS = ["terminated", "destroyed", "error", "console"];

// Bytes of an error's message that are passed on, with room for what UTF-8 adds.
const MAX_MESSAGE_LENGTH = 16 * 1024;

function messageOf(error) {
  let message;
  try {
    message = String(error?.message ?? error);
  } catch {
    message = "an error that has no text";
  }
  return message.slice(0, MAX_MESSAGE_LENGTH);
}

function checkHandler(handler) {
  if (typeof handler !== "function") {
    throw new TypeError(`the handler must be a function, not ${typeof handler}`);
  }
}

// Handlers of an event, each once. A change makes a new array: one that is being run stays as it is.
const withHandler = (handlers, handler) =>
  handlers.includes(handler) ? handlers : [...handlers, handler];

// What a handler throws ends the run like any uncaught error. Gives the promises of those that are not done,
// `undefined` for none. `handlers` is an array that does not change.
function run(handlers, data) {
  let pending;
  for (let i = 0; i < handlers.length; i++) {
    const handler = handlers[i];
    try {
      const result = handler(data);
      if (typeof result === "object" && result !== null && op_host_is_pending(result)) {
        (pending ??= []).push(result);
      }
    } catch (error) {
      reportException(error);
    }
  }
  return pending;
}

// Characters of an error's texts, and of those of what it came of.
function lengthOf({ name, message, stack, source, cause, errors }) {
  let sum = name.length + message.length + (stack?.length ?? 0) + (source?.length ?? 0);
  if (cause !== undefined) sum += lengthOf(cause);
  for (const error of errors ?? []) sum += lengthOf(error);
  return sum;
}

// What a guest threw, with what that came of.
function errorOf({ name, message, stack, cause, errors }) {
  const options = cause === undefined ? undefined : { cause: errorOf(cause) };
  const error = errors === undefined
    ? new Error(message, options)
    : new AggregateError(errors.map(errorOf), message, options);
  if (name !== "") error.name = name;
  error.stack = stack ?? `${error.name}: ${error.message}`;
  return error;
}

// A path, as `Deno` takes it: text or a `file:` URL.
function pathOf(path) {
  const text = pathFromURL(path);
  if (typeof text !== "string" || text === "") {
    throw new TypeError("the path must be a text that is not empty, or a file: URL");
  }
  return text;
}

export class Isolate {
  #sandbox;
  #id;
  #name;
  #ready; // a promise, once it was asked for
  #ended; // undefined while it lives, then why it ended
  #handlers = new Map(); // event -> { handlers, receiver }
  #requestHandlers = new Map(); // method -> function
  #functions; // of `env`: method -> function
  #systemHandlers = new Map(); // event -> array of functions
  #systemKept = [];
  #errorsKept = 0;
  #errorsLength = 0;
  #working = []; // { pending, cost }: handlers of an event that are not done, and what they hold
  #most = 64; // handlers that may be at work before it is asked which of them are done
  #congested; // while the guest does not take its messages: a promise of room
  #aborts = new Map(); // request id -> AbortController, made when a handler asks for it
  #streams;

  constructor(key, sandbox, created, functions) {
    if (key !== MADE_HERE) {
      throw new TypeError("isolates are made by `await sandbox.createIsolate()`");
    }
    this.#sandbox = sandbox;
    this.#id = created.id;
    this.#name = created.name ?? undefined;
    this.#functions = functions;
    this.#streams = createStreams(
      (event, data) => this.#control(event, data),
      { __proto__: null, congested: () => this.#congested, most: MAX_STREAMS },
    );
    for (const method of functions.keys()) this.#answers(method);
  }

  get id() {
    return this.#id;
  }

  get name() {
    return this.#name;
  }

  get destroyed() {
    return this.#ended !== undefined;
  }

  toString() {
    return `Isolate #${this.#id}`;
  }

  execute(code) {
    this.#checkAlive();
    op_isolate_execute(this.#sandbox, this.#id, String(code));
  }

  async evaluate(code) {
    this.#checkAlive();
    return this.#value(await op_isolate_evaluate(this.#sandbox, this.#id, String(code)));
  }

  // Settles when the main module has run.
  get ready() {
    return this.#ready ??= this.#whenReady();
  }

  async #whenReady() {
    this.#checkAlive();
    this.#value(await op_isolate_ready(this.#sandbox, this.#id));
  }

  async call(name, ...args) {
    this.#checkAlive();
    name = String(name);
    const json = this.#encode(args);
    const streams = payload.handedOut();
    const outcome = await op_isolate_call(this.#sandbox, this.#id, name, json, payload.marked());
    if (outcome.kind === "unsent") {
      payload.connectStreams(this.#streams);
      payload.takeBack(streams);
    }
    return this.#value(outcome);
  }

  send(event, data) {
    this.#checkAlive();
    event = String(event);
    this.#post(data, (json, marked) => op_isolate_send(this.#sandbox, this.#id, event, json, marked));
  }

  on(event, handler) {
    checkHandler(handler);
    event = String(event);
    let entry = this.#handlers.get(event);
    if (entry === undefined) this.#handlers.set(event, entry = this.#entry());
    entry.handlers = withHandler(entry.handlers, handler);
    if (op_isolate_handle_event(this.#sandbox, this.#id, event, entry.receiver)) {
      // Before anything newer: the next event comes from the loop, after the microtasks.
      queueMicrotask(() => this.#unstash(event));
    }
    return this;
  }

  off(event, handler) {
    event = String(event);
    const entry = this.#handlers.get(event);
    if (entry === undefined) return this;
    entry.handlers = handler === undefined ? [] : entry.handlers.filter((other) => other !== handler);
    if (entry.handlers.length === 0) {
      this.#handlers.delete(event);
      op_isolate_ignore_event(this.#sandbox, this.#id, event);
    }
    return this;
  }

  onRequest(method, handler) {
    checkHandler(handler);
    method = String(method);
    this.#requestHandlers.set(method, handler);
    this.#answers(method);
    return this;
  }

  onSystem(event, handler) {
    checkHandler(handler);
    if (!SYSTEM_EVENTS.includes(event)) {
      throw new TypeError(
        `there is no system event '${event}', only ${SYSTEM_EVENTS.join(", ")}`,
      );
    }
    this.#systemHandlers.set(event, withHandler(this.#systemHandlers.get(event) ?? [], handler));
    const kept = this.#systemKept.filter((item) => item.event === event);
    if (kept.length > 0) {
      this.#systemKept = this.#systemKept.filter((item) => item.event !== event);
      if (event === "error") this.#errorsKept = this.#errorsLength = 0;
      queueMicrotask(() => {
        for (const { data } of kept) run([handler], data);
      });
    }
    return this;
  }

  allowWebSocket(check) {
    checkHandler(check);
    allowWebSocket(this, check);
    return this;
  }

  // Has the guest's `fetch` handler answer a request. Rejects with what the handler throws.
  async fetch(input, init) {
    this.#checkAlive();
    return await fetchFrom(this.#sandbox, this.#id, input, init, errorOf);
  }

  // Listens, and has the guest's `fetch` handler answer the requests of clients.
  async listen(options = {}) {
    this.#checkAlive();
    return await listen(this.#sandbox, this.#id, options, (error) => this.#system("error", error));
  }

  async drain() {
    this.#checkAlive();
    await op_isolate_drain(this.#sandbox, this.#id);
  }

  stats() {
    this.#checkAlive();
    return { ...op_isolate_stats(this.#sandbox, this.#id) };
  }

  async cpuProfile(path, options = {}) {
    this.#checkAlive();
    const { seconds = 10, svg } = options;
    const picture = svg === undefined ? "" : pathOf(svg);
    await op_isolate_cpu_profile(this.#sandbox, this.#id, pathOf(path), Number(seconds), picture);
  }

  async heapSnapshot(path) {
    this.#checkAlive();
    await op_isolate_heap_snapshot(this.#sandbox, this.#id, pathOf(path));
  }

  async heapStatistics() {
    this.#checkAlive();
    return await op_isolate_heap_statistics(this.#sandbox, this.#id);
  }

  destroy() {
    if (this.#ended !== undefined) return;
    this.#ended = "destroyed";
    op_isolate_destroy(this.#sandbox, this.#id);
  }

  [Symbol.dispose]() {
    this.destroy();
  }

  [Symbol.for("Deno.privateCustomInspect")](inspect, options) {
    const shown = { id: this.#id, name: this.#name, destroyed: this.destroyed };
    if (this.#name === undefined) delete shown.name;
    return `Isolate ${inspect(shown, options)}`;
  }

  #checkAlive() {
    if (this.#ended !== undefined) throw new Error(`${this} is destroyed: ${this.#ended}`);
  }

  // Handlers of one event. `receiver` is called by the runtime with each message of it.
  #entry() {
    const entry = {
      handlers: [],
      receiver: (data, marked, cost) => {
        const pending = run(entry.handlers, marked ? this.#revive(data) : data);
        if (pending !== undefined) this.#holds(pending, cost);
      },
    };
    return entry;
  }

  #answers(method) {
    op_isolate_handle_method(this.#sandbox, this.#id, method);
  }

  #unstash(event) {
    for (;;) {
      const entry = this.#handlers.get(event);
      if (entry === undefined) return;
      const waiting = op_isolate_unstash(this.#sandbox, this.#id, event);
      if (waiting === null) return;
      let data;
      try {
        data = this.#take(waiting);
      } catch (error) {
        this.#system("error", { name: "Error", message: error.message, stack: null, source: null });
        continue;
      }
      const pending = run(entry.handlers, data);
      if (pending !== undefined) this.#holds(pending, waiting.cost);
    }
  }

  #take({ number, marked }) {
    const value = op_isolate_take(number);
    return marked ? this.#revive(value) : value;
  }

  // JSON text; whether it is marked, `payload.marked()` says until the next call.
  #encode(data) {
    payload.connectStreams(this.#streams);
    return payload.encode(data) ?? "";
  }

  // `send(json, marked)` throws where the data is not taken: its streams are their owner's again.
  #post(data, send) {
    const json = this.#encode(data);
    try {
      send(json, payload.marked());
    } catch (error) {
      payload.takeBack(payload.handedOut());
      throw error;
    }
  }

  #revive(data) {
    payload.connectStreams(this.#streams);
    return payload.revive(data);
  }

  // Between the two runtimes. Called from streams, where nobody waits for an error.
  #control(event, data) {
    this.#deliver((sandbox, id) => {
      this.#post(data, (json, marked) => op_isolate_control(sandbox, id, event, json, marked));
    }).catch(reportException);
  }

  // What `evaluate` and `call` give.
  #value(outcome) {
    switch (outcome.kind) {
      case "value":
        return this.#take(outcome);
      case "thrown": {
        throw errorOf(JSON.parse(outcome.error));
      }
      default:
        throw new Error(outcome.message);
    }
  }

  // From here on: called by the runtime, with what happened in the isolate.

  static receive(isolate, kind, a, b, c, d) {
    switch (kind) {
      case "message":
        isolate.#unhandled(a, c ? isolate.#revive(b) : b);
        break;
      case "request":
        isolate.#request(a, c ? isolate.#revive(b) : b, d);
        break;
      case "unhandled":
        isolate.#refuse(a, d);
        break;
      case "settle":
        isolate.#settle();
        break;
      case "control":
        isolate.#controlled(a, c ? isolate.#revive(b) : b);
        break;
      case "terminated":
        isolate.#ended = a.detail === "" ? a.reason : `${a.reason} (${a.detail})`;
        isolate.#system(kind, a);
        break;
      case "destroyed":
        isolate.#ended ??= a.reason;
        isolate.#system(kind, a);
        for (const abort of isolate.#aborts.values()) abort.abort(new Error(`${isolate} is destroyed`));
        break;
      default:
        isolate.#system(kind, a);
    }
  }

  // As a request without a handler: the guest's socket would wait for ever.
  #unhandled(event, data) {
    if (event !== "ws.open") return;
    const conn_id = data?.conn_id;
    if (typeof conn_id !== "number") return;
    const message = "the host opens no WebSockets: allowWebSocket(check) does";
    const json = JSON.stringify({ conn_id, event_type: "error", data: { message } });
    this.#deliver((sandbox, id) => op_isolate_send(sandbox, id, "__ws_event", json, false))
      .catch(reportException);
  }

  // Handlers that are not done hold data of this cost.
  #holds(pending, cost) {
    this.#working.push({ pending, cost });
    op_isolate_hold(this.#sandbox, this.#id, cost);
    if (this.#working.length > this.#most) {
      this.#settle();
      this.#most = 2 * this.#working.length + 64;
    }
  }

  // Looks which handlers have come to their end. They are asked, not listened to: who listens to a promise
  // answers for its rejection.
  #settle() {
    let cost = 0;
    this.#working = this.#working.filter((work) => {
      if (work.pending.some(op_host_is_pending)) return true;
      cost += work.cost;
      return false;
    });
    if (cost > 0) op_isolate_let_go(this.#sandbox, this.#id, cost);
  }

  #system(event, data) {
    const handlers = this.#systemHandlers.get(event);
    if (handlers !== undefined) {
      run(handlers, data);
      return;
    }
    if (event === "console") return;
    if (event === "error") {
      const length = lengthOf(data);
      if (this.#errorsKept >= MAX_ERRORS_KEPT || this.#errorsLength + length > MAX_ERRORS_LENGTH) return;
      this.#errorsKept++;
      this.#errorsLength += length;
    }
    this.#systemKept.push({ event, data });
  }

  #controlled(name, data) {
    if (this.#streams.receive(name, data)) return;
    if (name === "request.cancel") {
      const id = data?.id;
      // No honest runtime sends anything else.
      if (typeof id !== "number") return;
      if (op_isolate_withdraw(this.#sandbox, this.#id, id)) {
        this.#reject(id, "the guest aborted the request").catch(reportException);
        return;
      }
      this.#aborts.get(id)?.abort(new Error("the guest aborted the request"));
      this.#aborts.delete(id);
    }
  }

  #refuse(method, id) {
    this.#reject(id, `the host has no handler for the request '${method}'`);
  }

  async #reject(id, message) {
    await this.#deliver((s, i) => op_isolate_reject(s, i, id, message));
  }

  async #request(method, data, id) {
    const fn = this.#functions.get(method);
    const handler = fn === undefined
      ? this.#requestHandlers.get(method)
      : (args) => callFunction(fn, args);
    try {
      const aborts = this.#aborts;
      const context = {
        get signal() {
          let abort = aborts.get(id);
          if (abort === undefined) aborts.set(id, abort = new AbortController());
          return abort.signal;
        },
      };
      let result = await handler(data, context);
      if (method === "fetch" && isResponse(result)) result = fromResponse(result);
      await this.#deliver((s, i) => {
        this.#post(result, (json, marked) => op_isolate_answer(s, i, id, json, marked));
      });
    } catch (error) {
      await this.#reject(id, messageOf(error));
    } finally {
      this.#aborts.delete(id);
    }
  }

  // Sends at once, or when there is room in the queue: what goes this way is never lost. After the
  // isolate's end nobody waits for it.
  async #deliver(send) {
    while (this.#ended === undefined) {
      try {
        send(this.#sandbox, this.#id);
        return;
      } catch (error) {
        if (isGone(error)) return;
        if (error.name !== "Busy") throw error;
      }
      try {
        await (this.#congested ??= this.#room());
      } catch {
        return;
      }
    }
  }

  // Of the queue to the guest, half is free.
  async #room() {
    try {
      await op_isolate_drain(this.#sandbox, this.#id);
    } finally {
      this.#congested = undefined;
    }
  }
}

// The isolate ended, and its last event is still on the way.
const isGone = (error) => error.message.includes("is destroyed");

const isResponse = (value) =>
  typeof value === "object" && value !== null && value instanceof globalThis.Response;

// A handler of `fetch` may give the platform's own answer.
function fromResponse(response) {
  return {
    ok: response.ok,
    status: response.status,
    statusText: response.statusText,
    headers: [...response.headers],
    body: response.body,
  };
}
