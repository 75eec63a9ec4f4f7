// A drop-in for what programs use most of `isolated-vm`. Each context is an isolate of its own, in a thread, process or
// container of Stockade. docs/clients.md describes what differs.

import { printable } from "../lib/errors.js";
import { Bridge } from "../lib/isolated-vm/bridge.js";
import { codec } from "../lib/isolated-vm/codec.js";
import { guest } from "../lib/isolated-vm/guest.js";
import { Host, unknown } from "../lib/isolated-vm/host.js";

// A block, whose value is nothing.
const PRELUDE = `{ Object.defineProperty(globalThis, "__stockade", { value: (${guest})(${codec}) }); }`;
const ENDED = { memory_limit_exceeded: "Isolate was disposed during execution due to memory limit", timeout: "Script execution timed out.", cpu_limit_exceeded: "Script execution timed out." };
/** For each session, what its guest may call in this process. */
const hosts = new Map();
let bridge = null;
let next = 1;

/** The thread of all isolates, which begins with the first. */
function theBridge() {
  if (bridge) return bridge;
  bridge = new Bridge();
  bridge.onTool = (session, params, answer) => {
    const host = hosts.get(session);
    if (host) host.receive(params, answer);
    else answer({ error: new Error("Isolate is disposed") });
  };
  return bridge;
}

const unsupported = (what, fix) => {
  throw new Error(`${what} is not part of Stockade's drop-in for isolated-vm\n  fix: ${fix}`);
};

/** Defines `name`, `nameSync` and `nameIgnored` of a class by one function of the arguments and of how to wait: `sync` or `async`. */
function threefold(of, name, operation) {
  of.prototype[name] = async function (...args) {
    return operation.call(this, args, "async");
  };
  of.prototype[`${name}Sync`] = function (...args) {
    return operation.call(this, args, "sync");
  };
  of.prototype[`${name}Ignored`] = function (...args) {
    this[name](...args).catch(() => {});
  };
}

/** Source with the name that stacks show for it. */
const named = (code, { filename = "<isolated-vm>" } = {}) => `${code}\n//# sourceURL=${String(filename).replace(/\s/g, "%20")}`;

/** What the options of a transfer ask of the guest. */
const transfer = ({ copy, externalCopy, reference, promise } = {}, fallback) => ({ copy: copy || externalCopy, reference, promise, fallback });

/** The session behind a context: everything that runs in it goes through `perform`. */
class Guest {
  #session = next++;
  #host = new Host();
  #owner;

  constructor(isolate, options) {
    this.#owner = isolate;
    hosts.set(this.#session, this.#host);
    this.codec = codec((value) => this.#special(value), (mark) => this.#revive(mark));
    this.ready = [
      { does: "open", session: this.#session, options },
      { does: "run", session: this.#session, code: PRELUDE, options: {} },
    ];
  }

  /** Performs an operation in the guest: `how` is `sync` or `async`. */
  perform(operation, how, { timeout } = {}, externalCopy = false) {
    this.#owner.check();
    const run = { does: "run", session: this.#session, code: `return __stockade(${JSON.stringify(JSON.stringify(operation))})`, options: { timeout } };
    const requests = [...this.ready.splice(0), run];
    const read = (answers) => {
      for (const { error } of answers.slice(1, -1)) if (error) throw new Error(`cannot prepare the context: ${error.message}`);
      return this.#read(answers.at(-1), externalCopy);
    };
    if (how === "sync") return read(requests.map((request) => theBridge().requestSync(request)));
    return Promise.all(requests.map((request) => theBridge().request(request))).then(read);
  }

  #read({ result, error, usage, stateLost }, externalCopy) {
    this.#owner.used(usage);
    if (stateLost && !this.#owner.isDisposed) this.#owner.dispose();
    if (error) {
      // A guest that was ended between two calls has a successor, without the prelude.
      const message = stateLost && error.kind === "thrown" ? "Isolate is disposed" : error.message;
      throw Object.assign(new Error(ENDED[error.kind] ?? message), { code: error.kind });
    }
    const answer = JSON.parse(result);
    this.#host.flush(answer.turns);
    if (!("threw" in answer)) {
      const value = this.codec.decode(answer.value);
      return externalCopy ? new ExternalCopy(value) : value;
    }
    const thrown = this.codec.decode(answer.threw);
    if (thrown instanceof Error) Object.defineProperty(thrown, "stack", { value: printable(answer.stack), configurable: true, writable: true });
    throw thrown;
  }

  #special(value) {
    if (typeof value === "function") return { $: "callback", id: this.#host.add(value) };
    if (value instanceof Callback) return { $: "callback", id: this.#host.add(value.call), ignored: value.ignored };
    if (value instanceof Transferred) return value.mark(this);
    if (value instanceof Reference) return value.mark(this, (call) => this.#host.add(call));
    if (value instanceof Isolate || value instanceof Context || value instanceof Script) unknown();
  }

  #revive(mark) {
    if (mark.$ !== "reference" || !Number.isSafeInteger(mark.id)) unknown();
    return new Reference(OWN, { guest: this, id: mark.id, type: String(mark.type) });
  }

  /** A value as an argument of the guest, with the options `{copy, reference}`. */
  encode(value, { copy, reference } = {}) {
    if (value === ivm) unsupported("the module itself in a guest", "pass functions and values");
    if (reference && !(value instanceof Reference)) value = new Reference(value);
    if (!copy && typeof value === "object" && value !== null && !(value instanceof Transferred || value instanceof Reference || value instanceof Callback)) unknown();
    return this.codec.encode(value);
  }

  close() {
    hosts.delete(this.#session);
    this.#host.end();
    if (this.ready.length === 0) theBridge().request({ does: "close", session: this.#session }).catch(() => {});
  }
}

const OWN = Symbol("made by the drop-in");

/** Limits and contexts. */
export class Isolate {
  #options;
  #contexts = new Set();
  #disposed = false;
  cpuTime = 0n;
  wallTime = 0n;

  /**
   * @param {{memoryLimit?: number, stockade?: import("../index.js").SandboxOptions}} options `memoryLimit` in MB, for each
   *   context; `stockade` has options of a sandbox, such as `level`
   */
  constructor({ memoryLimit = 128, inspector, snapshot, stockade } = {}) {
    if (!(memoryLimit >= 8)) throw new RangeError("`memoryLimit` must be at least 8");
    if (inspector) unsupported("`inspector`", "leave it out");
    if (snapshot) unsupported("`snapshot`", "run the code of the snapshot in each context");
    this.#options = { cpu: 0, timeout: 0, ...stockade, memory: `${memoryLimit}mb` };
  }

  get isDisposed() {
    return this.#disposed;
  }

  createContextSync() {
    this.check();
    const one = new Guest(this, this.#options);
    this.#contexts.add(one);
    return new Context(OWN, this, one);
  }
  async createContext() {
    return this.createContextSync();
  }

  compileScriptSync(code, origin) {
    this.check();
    return new Script(OWN, this, named(code, origin));
  }
  async compileScript(code, origin) {
    return this.compileScriptSync(code, origin);
  }

  dispose() {
    this.check();
    this.#disposed = true;
    for (const context of this.#contexts) context.close();
  }

  check() {
    if (this.#disposed) throw new Error("Isolate is disposed");
  }

  /** Counts what a run used, in nanoseconds. */
  used({ cpuMs = 0, elapsedMs = 0 } = {}) {
    this.cpuTime += BigInt(Math.round(cpuMs * 1e6));
    this.wallTime += BigInt(Math.round(elapsedMs * 1e6));
  }

  static createSnapshot() {
    unsupported("`createSnapshot`", "run the code of the snapshot in each context");
  }
  compileModule() {
    unsupported("`compileModule`", "bundle the modules, or use Sandbox.run with `files`");
  }
  compileModuleSync() {
    this.compileModule();
  }
  getHeapStatistics() {
    unsupported("`getHeapStatistics`", "use Sandbox.run, whose outcome has `usage.memoryBytes`");
  }
  getHeapStatisticsSync() {
    this.getHeapStatistics();
  }
  createInspectorSession() {
    unsupported("`createInspectorSession`", "use `stockade run --inspect`");
  }
  startCpuProfiler() {
    unsupported("`startCpuProfiler`", "use `stockade profile`");
  }
}

export class Context {
  constructor(own, isolate, one) {
    if (own !== OWN) throw new TypeError("Private constructor");
    this.isolate = isolate;
    this.guest = one;
    this.global = new Reference(OWN, { guest: one, id: 0, type: "object" });
  }
  release() {
    this.global.release();
  }
}

threefold(Context, "eval", function ([code, options = {}], how) {
  return new Script(OWN, this.isolate, named(code, options)).start(this, options, how);
});
threefold(Context, "evalClosure", function ([code, args = [], options = {}], how) {
  const names = args.map((_, index) => `$${index}`);
  const operation = {
    does: "closure",
    code: named(`(function (${names}) {${code}\n})`, options),
    args: args.map((one) => this.guest.encode(one, options.arguments)),
    to: transfer(options.result),
  };
  return this.guest.perform(operation, how, options, options.result?.externalCopy);
});

export class Script {
  constructor(own, isolate, code) {
    if (own !== OWN) throw new TypeError("Private constructor");
    this.isolate = isolate;
    this.code = code;
  }
  start(context, options, how) {
    if (this.code === null) throw new Error("Script has been released");
    if (!(context instanceof Context) || context.isolate !== this.isolate) throw new TypeError("Invalid context");
    const operation = { does: "eval", code: this.code, to: transfer(options, "undefined") };
    return context.guest.perform(operation, how, options, options.externalCopy);
  }
  release() {
    this.code = null;
  }
}

threefold(Script, "run", function ([context, options = {}], how) {
  return this.start(context, options, how);
});

/** A value of a guest, or one of this process. */
export class Reference {
  #guest;
  #id;
  #value;
  #released = false;

  constructor(value, { guest: of, id, type } = {}) {
    if (value === OWN) {
      [this.#guest, this.#id, this.typeof] = [of, id, type];
    } else {
      this.#value = value;
      this.typeof = value === null ? "null" : typeof value === "symbol" ? "object" : typeof value;
    }
  }

  /** The guest and the number of the value there. */
  place() {
    if (this.#released) throw new TypeError("Reference has been released");
    if (!this.#guest) throw new TypeError("this reference is to a value of this process");
    return { guest: this.#guest, id: this.#id };
  }

  deref({ release } = {}) {
    if (this.#released) throw new TypeError("Reference has been released");
    if (this.#guest) throw new TypeError("Cannot dereference this from current isolate");
    if (release) this.release();
    return this.#value;
  }

  derefInto({ release } = {}) {
    const { guest: of, id } = this.place();
    return new Transferred((into) => {
      if (into !== of) throw new TypeError("Cannot dereference this into target isolate");
      if (release) this.release();
      return { $: "reference", id };
    });
  }

  release() {
    if (this.#released) return;
    this.#released = true;
    if (this.#guest && this.#id > 0) this.#guest.perform({ does: "release", id: this.#id, to: { fallback: "undefined" } }, "async").catch(() => {});
  }

  /** How the guest gets this reference itself: as something that it may call. */
  mark(into, register) {
    if (this.#guest) unsupported("a reference of a guest as a value of a guest", "pass reference.derefInto()");
    if (typeof this.#value !== "function") unsupported("a reference to an object of this process", "pass functions, or copies as new ExternalCopy(value).copyInto()");
    return { $: "host", id: register(this.#value), type: this.typeof };
  }

  applySyncPromise() {
    unsupported("`applySyncPromise`", "call reference.apply and wait for its promise");
  }
}

const onGuest = (reference, operation, to, how, options = {}, externalCopy = false) => {
  const { guest: of, id } = reference.place();
  return of.perform({ ...operation(of), id, to }, how, options, externalCopy);
};
threefold(Reference, "get", function ([key, options = {}], how) {
  return onGuest(this, () => ({ does: "get", key: String(key) }), transfer(options, "reference"), how, {}, options.externalCopy);
});
threefold(Reference, "set", function ([key, value, options = {}], how) {
  return onGuest(this, (of) => ({ does: "set", key: String(key), value: of.encode(value, options) }), { fallback: "undefined" }, how);
});
threefold(Reference, "delete", function ([key], how) {
  return onGuest(this, () => ({ does: "delete", key: String(key) }), { fallback: "undefined" }, how);
});
threefold(Reference, "copy", function (_, how) {
  return onGuest(this, () => ({ does: "value" }), { copy: true }, how);
});
threefold(Reference, "apply", function ([receiver, args = [], options = {}], how) {
  const operation = (of) => ({
    does: "apply",
    receiver: of.encode(receiver, options.arguments),
    args: args.map((one) => of.encode(one, options.arguments)),
  });
  return onGuest(this, operation, transfer(options.result, "reference"), how, options, options.result?.externalCopy);
});

/** A value on its way into a guest. */
class Transferred {
  constructor(mark) {
    this.mark = mark;
  }
}

/** A copy of a value, from when it is made. */
export class ExternalCopy {
  #encoded;

  constructor(value) {
    const { encode } = codec((one) => (typeof one === "function" || one instanceof Reference ? unknown() : undefined), unknown);
    this.#encoded = encode(value);
  }
  #taken({ release } = {}) {
    if (this.#encoded === undefined) throw new Error("ExternalCopy has been released");
    const encoded = this.#encoded;
    if (release) this.release();
    return encoded;
  }
  copy(options) {
    return codec(() => undefined, unknown).decode(this.#taken(options));
  }
  copyInto(options) {
    const encoded = this.#taken(options);
    return new Transferred(() => encoded);
  }
  release() {
    this.#encoded = undefined;
  }
}

/** A function for guests. There it returns a promise, or nothing with `{ignored: true}`. */
export class Callback {
  constructor(call, { ignored = false } = {}) {
    if (typeof call !== "function") throw new TypeError("`callback` must be a function");
    this.call = call;
    this.ignored = ignored;
  }
}

const ivm = { Callback, Context, ExternalCopy, Isolate, Reference, Script };
export default ivm;
