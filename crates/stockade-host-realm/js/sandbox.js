// `V8Sandbox`: makes isolates, and hands what happens in them to their objects.

import {
  op_sandbox_create,
  op_sandbox_abandoned,
  op_sandbox_isolates,
  op_sandbox_new,
  op_sandbox_shutdown,
  op_sandbox_threads,
} from "ext:core/ops";
import { Isolate, MADE_HERE } from "ext:stockade_host/isolate.js";

const isolatesOf = []; // by the sandbox's index: isolate id -> Isolate, or events that came early

function toJson(options) {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`the options must be an object, not ${options === null ? "null" : typeof options}`);
  }
  return JSON.stringify(options);
}

export class V8Sandbox {
  #index;

  constructor(options = {}) {
    this.#index = op_sandbox_new(toJson(options));
    isolatesOf[this.#index] = new Map();
  }

  async createIsolate(options = {}) {
    const created = await op_sandbox_create(this.#index, toJson(options));
    const isolate = new Isolate(MADE_HERE, this.#index, created);
    const isolates = isolatesOf[this.#index];
    const early = isolates.get(created.id);
    isolates.set(created.id, isolate);
    for (const event of early ?? []) receive(this.#index, created.id, ...event);
    return isolate;
  }

  threadCount() {
    return op_sandbox_threads(this.#index);
  }

  isolateCount() {
    return op_sandbox_isolates(this.#index);
  }

  // Ended isolates whose thread does not stop: inside a built-in function that V8 cannot interrupt.
  abandonedCount() {
    return op_sandbox_abandoned(this.#index);
  }

  shutdown() {
    op_sandbox_shutdown(this.#index);
  }

  [Symbol.dispose]() {
    this.shutdown();
  }
}

// Called by the run's loop for each event, in order:
//   "message"  event, data, marked, bytes      "request"  method, data, marked, request id
//   "control"  name, data, marked              "console"  { level, text }
//   "error"    { name, message, stack, source, line, column }
//   "terminated"  { reason, cpuMs, … }         "destroyed"  { reason }, always the last
export function receive(sandbox, id, kind, a, b, c, d) {
  const isolates = isolatesOf[sandbox];
  const isolate = isolates.get(id);
  if (!(isolate instanceof Isolate)) {
    // Its `createIsolate` has not resolved yet.
    if (isolate === undefined) isolates.set(id, [[kind, a, b, c, d]]);
    else isolate.push([kind, a, b, c, d]);
    return;
  }
  if (kind === "destroyed") isolates.delete(id);
  Isolate.receive(isolate, kind, a, b, c, d);
}
