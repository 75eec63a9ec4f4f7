// `V8Sandbox`: makes isolates, and hands what happens in them to their objects.

import {
  op_sandbox_create,
  op_sandbox_abandoned,
  op_sandbox_isolates,
  op_sandbox_new,
  op_sandbox_shutdown,
  op_sandbox_threads,
} from "ext:core/ops";
import { takeFunctions } from "ext:stockade_host/env.js";
import { Isolate, MADE_HERE } from "ext:stockade_host/isolate.js";

const isolatesOf = []; // by the sandbox's index: isolate id -> Isolate, or events that came early

// The options as JSON, and the functions of their `env`.
function read(given) {
  if (typeof given !== "object" || given === null) {
    throw new TypeError(`the options must be an object, not ${given === null ? "null" : typeof given}`);
  }
  const { options, functions } = takeFunctions(given);
  return { json: JSON.stringify(options), functions };
}

export class V8Sandbox {
  #index;
  #functions; // of the sandbox's own `env`

  constructor(options = {}) {
    const { json, functions } = read(options);
    this.#index = op_sandbox_new(json);
    this.#functions = functions ?? new Map();
    isolatesOf[this.#index] = new Map();
  }

  async createIsolate(options = {}) {
    const { json, functions = this.#functions } = read(options);
    const created = await op_sandbox_create(this.#index, json);
    const isolate = new Isolate(MADE_HERE, this.#index, created, functions);
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
