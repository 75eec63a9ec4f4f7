// `V8Sandbox`: makes isolates, and hands what happens in them to their objects.

import {
  op_isolate_listen,
  op_sandbox_create,
  op_sandbox_abandoned,
  op_sandbox_isolates,
  op_sandbox_new,
  op_sandbox_shutdown,
  op_sandbox_threads,
} from "ext:core/ops";
import { answerApprovals, takeApprovers } from "ext:stockade_host/approvals.js";
import { takeFunctions } from "ext:stockade_host/env.js";
import { Isolate, MADE_HERE } from "ext:stockade_host/isolate.js";

const isolatesOf = []; // by the sandbox's index: isolate id -> Isolate

function checkOptions(given) {
  if (typeof given !== "object" || given === null) {
    throw new TypeError(`the options must be an object, not ${given === null ? "null" : typeof given}`);
  }
}

// The options as JSON, and the functions of their `env`.
function read(given) {
  checkOptions(given);
  const { options, functions } = takeFunctions(given);
  return { json: JSON.stringify(options), functions };
}

// The option `serve` as JSON; the empty text for an isolate that answers no requests.
function readServe(serve) {
  if (serve === undefined || serve === false) return "";
  if (serve === true) return "{}";
  if (typeof serve !== "object" || serve === null) {
    throw new TypeError(`serve: true, false or an object of limits, not ${serve === null ? "null" : typeof serve}`);
  }
  return JSON.stringify(serve);
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
    checkOptions(options);
    const { grants: given, serve, ...others } = options;
    const { json, functions = this.#functions } = read(others);
    const { grants, approvers } = takeApprovers(given);
    const names = Object.keys(approvers);
    const created = await op_sandbox_create(this.#index, json, grants, names, readServe(serve));
    if (names.length > 0) answerApprovals(this.#index, created.id, approvers);
    const isolate = new Isolate(MADE_HERE, this.#index, created, functions);
    isolatesOf[this.#index].set(created.id, isolate);
    op_isolate_listen(this.#index, created.id);
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
//   "message"  event, data, marked: of an event without a handler; what has one goes to its receiver
//   "request"  method, data, marked, request id
//   "control"  name, data, marked              "unhandled"  method, and as "request" the id
//   "settle"   nothing                         "console"  { level, text }
//   "error"    { name, message, stack, source, line, column }
//   "terminated"  { reason, cpuMs, ... }         "destroyed"  { reason }, always the last
export function receive(sandbox, id, kind, a, b, c, d) {
  const isolates = isolatesOf[sandbox];
  const isolate = isolates.get(id);
  if (isolate === undefined) return;
  if (kind === "destroyed") isolates.delete(id);
  Isolate.receive(isolate, kind, a, b, c, d);
}
