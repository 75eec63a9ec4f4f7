// `Isolate`: what a host script holds of a guest.
//
// Data comes from the guest and is data only: it was parsed from JSON by the engine.

import { core } from "ext:core/mod.js";
import {
  op_isolate_answer,
  op_isolate_call,
  op_isolate_control,
  op_isolate_destroy,
  op_isolate_drain,
  op_isolate_evaluate,
  op_isolate_execute,
  op_isolate_offer,
  op_isolate_ready,
  op_isolate_reject,
  op_isolate_send,
  op_isolate_stats,
} from "ext:core/ops";
import { callFunction } from "ext:stockade_host/env.js";
import { allowWebSocket } from "ext:stockade_host/sockets.js";
import { Stash } from "ext:stockade_host/stash.js";

const { reportException } = core.loadExtScript("ext:deno_web/02_event.js");
const payload = core.loadExtScript("ext:stockade_payload/payload.js");
const { create: createStreams } = core.loadExtScript("ext:stockade_payload/streams.js");

// Only this realm makes isolates.
export const MADE_HERE = Symbol("made here");

// System events without a handler that are kept for one that comes later.
const MAX_SYSTEM_KEPT = 64;
const SYSTEM_EVENTS = ["terminated", "destroyed", "error", "console"];

const parse = (json) => json === "" ? undefined : JSON.parse(json);

// Bytes of an error's message that cross the wall, with room for what UTF-8 adds.
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

function addTo(map, name, handler) {
  const set = map.get(name);
  if (set === undefined) map.set(name, new Set([handler]));
  else set.add(handler);
}

// What a handler throws ends the run like any uncaught error.
function run(handlers, data) {
  for (const handler of [...handlers]) {
    try {
      handler(data);
    } catch (error) {
      reportException(error);
    }
  }
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

export class Isolate {
  #sandbox;
  #id;
  #name;
  #ready; // a promise, once it was asked for
  #ended; // undefined while it lives, then why it ended
  #handlers = new Map(); // event -> set of functions
  #requestHandlers = new Map(); // method -> function
  #functions; // of `env`: method -> function
  #systemHandlers = new Map(); // event -> set of functions
  #stash = new Stash();
  #systemKept = [];
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
    this.#streams = createStreams((event, data) => this.#control(event, data));
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
    const json = this.#encode(args);
    const marked = payload.marked();
    return this.#value(
      await op_isolate_call(this.#sandbox, this.#id, String(name), json, marked),
    );
  }

  send(event, data) {
    this.#checkAlive();
    const json = this.#encode(data);
    op_isolate_send(this.#sandbox, this.#id, String(event), json, payload.marked());
  }

  on(event, handler) {
    checkHandler(handler);
    addTo(this.#handlers, event, handler);
    if (this.#stash.has(event)) {
      // Before anything newer: the next event comes from the loop, after the microtasks.
      queueMicrotask(() => {
        const handlers = this.#handlers.get(event);
        if (handlers === undefined) return;
        for (const data of this.#stash.take(event)) run(handlers, data);
      });
    }
    return this;
  }

  off(event, handler) {
    const set = this.#handlers.get(event);
    if (handler === undefined) set?.clear();
    else set?.delete(handler);
    if (set?.size === 0) this.#handlers.delete(event);
    return this;
  }

  onRequest(method, handler) {
    checkHandler(handler);
    this.#requestHandlers.set(method, handler);
    return this;
  }

  onSystem(event, handler) {
    checkHandler(handler);
    if (!SYSTEM_EVENTS.includes(event)) {
      throw new TypeError(
        `there is no system event '${event}', only ${SYSTEM_EVENTS.join(", ")}`,
      );
    }
    addTo(this.#systemHandlers, event, handler);
    const kept = this.#systemKept.filter((item) => item.event === event);
    if (kept.length > 0) {
      this.#systemKept = this.#systemKept.filter((item) => item.event !== event);
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

  async drain() {
    this.#checkAlive();
    await op_isolate_drain(this.#sandbox, this.#id);
  }

  stats() {
    this.#checkAlive();
    return { ...op_isolate_stats(this.#sandbox, this.#id) };
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

  // JSON text; whether it is marked, `payload.marked()` tells until the next call.
  #encode(data) {
    payload.connectStreams(this.#streams);
    return payload.encode(data) ?? "";
  }

  #revive(data) {
    payload.connectStreams(this.#streams);
    return payload.revive(data);
  }

  // Between the two runtimes. Called from streams, where nobody waits for an error.
  #control(event, data) {
    this.#deliver((sandbox, id) => {
      const json = this.#encode(data);
      op_isolate_control(sandbox, id, event, json, payload.marked());
    }).catch(reportException);
  }

  // What `evaluate` and `call` give.
  #value(outcome) {
    switch (outcome.kind) {
      case "value": {
        const value = parse(outcome.json);
        if (outcome.parts === null) return value;
        op_isolate_offer(outcome.parts);
        return this.#revive(value);
      }
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
        isolate.#message(a, c ? isolate.#revive(b) : b, d);
        break;
      case "request":
        isolate.#request(a, c ? isolate.#revive(b) : b, d);
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

  #message(event, data, size) {
    const handlers = this.#handlers.get(event);
    if (handlers !== undefined) {
      run(handlers, data);
      return;
    }
    if (event === "ws.open") {
      this.#refuseSocket(data);
      return;
    }
    const lost = this.#stash.put(event, data, size);
    if (lost !== undefined) {
      this.#system("error", { name: "Error", message: lost, stack: null, source: null });
    }
  }

  // As a request without a handler: the guest's socket would wait for ever.
  #refuseSocket(data) {
    const conn_id = data?.conn_id;
    if (typeof conn_id !== "number") return;
    const message = "the host opens no WebSockets: allowWebSocket(check) does";
    const json = JSON.stringify({ conn_id, event_type: "error", data: { message } });
    this.#deliver((sandbox, id) => op_isolate_send(sandbox, id, "__ws_event", json, false))
      .catch(reportException);
  }

  #system(event, data) {
    const handlers = this.#systemHandlers.get(event);
    if (handlers !== undefined) run(handlers, data);
    else if (this.#systemKept.length < MAX_SYSTEM_KEPT && event !== "console") {
      this.#systemKept.push({ event, data });
    }
  }

  #controlled(name, data) {
    if (this.#streams.receive(name, data)) return;
    if (name === "request.cancel") {
      this.#aborts.get(data?.id)?.abort(new Error("the guest gave the request up"));
      this.#aborts.delete(data?.id);
    }
  }

  async #request(method, data, id) {
    const fn = this.#functions.get(method);
    const handler = fn === undefined
      ? this.#requestHandlers.get(method)
      : (args) => callFunction(fn, args);
    if (handler === undefined) {
      await this.#deliver((s, i) =>
        op_isolate_reject(s, i, id, `the host has no handler for the request '${method}'`)
      );
      return;
    }
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
        const json = this.#encode(result);
        op_isolate_answer(s, i, id, json, payload.marked());
      });
    } catch (error) {
      const message = messageOf(error);
      await this.#deliver((s, i) => op_isolate_reject(s, i, id, message));
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
        await op_isolate_drain(this.#sandbox, this.#id);
      } catch {
        return;
      }
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
