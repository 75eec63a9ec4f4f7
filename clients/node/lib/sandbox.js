// Sandboxes and sessions: options, and one run after another.

import { StockadeError } from "./errors.js";
import { encodeFiles } from "./files.js";
import { Run } from "./run.js";
import { Supervisor } from "./supervisor.js";
import { Tools } from "./tools.js";

/** How many combinations of options of runs a sandbox keeps open, with isolates ready. */
const MOST_VARIANTS = 4;
/** What a run may grant in addition to its sandbox: by name, or as a list. */
const ADDED = { env: {}, grants: {}, fetch: [] };
/** What a run may limit otherwise than its sandbox. */
const REPLACED = ["cpu", "memory", "output"];

/** What runs code. The supervisor opens a sandbox for each combination of options that runs ask for. */
class Runner {
  #supervisor;
  #options;
  /** Opened sandboxes by the options of runs as text, those of the latest run last. */
  #variants = new Map();
  #connection = null;
  #closed = false;

  constructor({ connect, program, tools, files, ...options }) {
    this.tools = new Tools(tools);
    this.#options = { ...options, files: encodeFiles(files) };
    this.#supervisor = Supervisor.acquire({ connect, program });
  }

  /** Runs code and returns its outcome. */
  run(code, options = {}) {
    return new Run(this, this.#supervisor, code, options);
  }

  /** Closes it, which ends what still runs. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await Promise.all([...this.#variants.values()].map((variant) => this.#closeVariant(variant)));
    } finally {
      this.#supervisor.release();
    }
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }

  /** What the supervisor is: `{name, version, v8, protocol, levels}`. Starts it if needed. */
  async info() {
    return this.#supervisor.connection.ready;
  }

  /** What the supervisor has open: `{sandboxes, runs, tools}` of this process, `{isolates, clients}` of all. */
  async stats() {
    return this.#supervisor.connection.request("stats", {});
  }

  /** Whether the state of this runner outlives a supervisor. */
  get stateful() {
    return this.#options.session === true;
  }

  /**
   * Performs a task with the connection and the name of the supervisor's sandbox that has these options.
   * @param {Tools} tools those of the run
   * @param {object} given further options of the run
   */
  async use(tools, given, task) {
    if (this.#closed) throw new StockadeError("closed", "the sandbox is closed", { fix: "make a new one" });
    const { connection } = this.#supervisor;
    if (this.#connection !== connection) {
      if (this.#connection && this.stateful) {
        const problem = "the supervisor of this session has ended, and the session's state with it";
        throw new StockadeError("session_ended", problem, { fix: "start a new session" });
      }
      this.#connection = connection;
      this.#variants.clear();
    }
    const variant = this.#variant(connection, tools.described, given);
    variant.runs += 1;
    try {
      return await task(connection, await variant.sandbox);
    } finally {
      variant.runs -= 1;
      this.#closeOldest();
    }
  }

  /** The options of the sandbox with those of a run. */
  #merged(described, given) {
    const unknown = Object.keys(given).find((key) => !Object.hasOwn(ADDED, key) && !REPLACED.includes(key));
    if (unknown) throw new TypeError(`a run has no option '${unknown}'\n  fix: see the type RunOptions, or give it to the sandbox`);
    const options = { ...this.#options, tools: { ...this.tools.described, ...described } };
    for (const [key, none] of Object.entries(ADDED)) {
      if (given[key] === undefined) continue;
      const before = options[key] ?? none;
      options[key] = Array.isArray(none) ? [...before, ...given[key]] : { ...before, ...given[key] };
    }
    for (const key of REPLACED) options[key] = given[key] ?? options[key];
    return options;
  }

  #variant(connection, described, given) {
    const key = JSON.stringify([described, given]);
    let variant = this.#variants.get(key);
    if (variant) {
      this.#variants.delete(key);
    } else {
      const sandbox = connection.request("open", this.#merged(described, given)).then((answer) => answer.sandbox);
      variant = { connection, sandbox, runs: 0 };
      sandbox.catch(() => this.#variants.get(key) === variant && this.#variants.delete(key));
    }
    this.#variants.set(key, variant);
    return variant;
  }

  #closeOldest() {
    for (const [key, variant] of this.#variants) {
      if (this.#variants.size <= MOST_VARIANTS) return;
      if (variant.runs > 0) continue;
      this.#variants.delete(key);
      this.#closeVariant(variant);
    }
  }

  async #closeVariant({ connection, sandbox }) {
    try {
      await connection.request("close", { sandbox: await sandbox });
    } catch {
      // The supervisor has ended, and its sandboxes with it; or the sandbox was never opened.
    }
  }
}

/** Runs each piece of code in an isolate that nothing else has used. */
export class Sandbox extends Runner {
  #given;

  constructor(options = {}) {
    super(options);
    this.#given = options;
  }

  /** A session: an isolate whose globals and declarations live on between runs. */
  session(options = {}) {
    return new Session({ ...this.#given, ...options });
  }
}

/** Runs pieces of code one after another in the same isolate. */
export class Session extends Runner {
  /** Settles when the run that began last has ended. */
  #last = Promise.resolve();

  constructor(options = {}) {
    super({ ...options, session: true });
  }

  run(code, options = {}) {
    for (const key of ["tools", "files", ...Object.keys(ADDED), ...REPLACED]) {
      if (options[key] === undefined) continue;
      throw new TypeError(`a run of a session cannot have '${key}', which its isolate got when it started\n  fix: give it to the session`);
    }
    return super.run(code, options);
  }

  /** Runs begin in the order in which they were asked for: the supervisor promises no order of requests that wait. */
  async use(...task) {
    const before = this.#last;
    let end;
    this.#last = new Promise((resolve) => (end = resolve));
    try {
      await before;
      return await super.use(...task);
    } finally {
      end();
    }
  }
}
