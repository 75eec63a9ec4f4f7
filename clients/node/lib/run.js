// One run: from its options to its outcome.

import { GuestError } from "./errors.js";
import { encodeFiles } from "./files.js";
import { Tools } from "./tools.js";

let next = 1;

/** A run that has begun. It is a promise of its outcome. */
export class Run {
  #runner;
  #supervisor;
  #id = `n${next++}`;
  #tools;
  #given;
  #signal;
  #onConsole;
  #lines = null;
  #started = false;
  #connection = null;
  #failure = null;
  #cancelled = false;
  /** Rejects when the run fails before it has begun at the supervisor. */
  #failed;
  #fails;
  #over = new AbortController();
  #done;

  constructor(runner, supervisor, code, { tools, files, signal, onConsole, timeout, ...given }) {
    if (typeof code !== "string") throw new TypeError(`code is a string, not ${code === null ? "null" : typeof code}`);
    this.#runner = runner;
    this.#supervisor = supervisor;
    this.#tools = new Tools(tools);
    this.#signal = signal;
    this.#onConsole = onConsole;
    this.#given = given;
    const params = { run: this.#id, code, timeout, files: encodeFiles(files) };
    this.#failed = new Promise((_, reject) => (this.#fails = reject));
    this.#failed.catch(() => {});
    // Begins after the caller's own statements, so that it may ask for the console first.
    this.#done = Promise.resolve().then(() => this.#perform(params));
  }

  then(fulfilled, rejected) {
    return this.#done.then(fulfilled, rejected);
  }

  catch(rejected) {
    return this.#done.catch(rejected);
  }

  finally(settled) {
    return this.#done.finally(settled);
  }

  get [Symbol.toStringTag]() {
    return "Run";
  }

  /** The console's lines as they come. Has to be read before the run begins: before the next `await`. */
  get console() {
    if (!this.#lines) {
      if (this.#started) {
        throw new Error("the run has begun without a reader of its console\n  fix: read `run.console` before the first `await`");
      }
      this.#lines = new Lines();
      // The reader of the lines gets the reason, and may be slow.
      this.#done.catch(() => {});
    }
    return this.#lines;
  }

  /** Ends the run. Its outcome has an error of the kind `cancelled`. */
  cancel() {
    this.#cancelled = true;
    // A run that has ended meanwhile needs no end, and one that has not begun is ended when it begins.
    this.#connection?.request("cancel", { run: this.#id }).catch(() => {});
  }

  /** Receives an entry of the console from the supervisor. */
  print(entry) {
    this.#lines?.push(entry);
    try {
      this.#onConsole?.(entry);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Calls a tool for the guest. */
  callTool(name, input) {
    const tools = this.#tools.has(name) ? this.#tools : this.#runner.tools;
    return tools.call(name, input, { signal: this.#over.signal });
  }

  /** Ends the run, whose promise then rejects with this reason. */
  #fail(reason) {
    this.#failure ??= { reason };
    if (this.#connection) this.cancel();
    else this.#fails(reason);
  }

  async #perform(params) {
    this.#started = true;
    const aborted = () => this.#fail(this.#signal.reason);
    this.#signal?.addEventListener("abort", aborted);
    try {
      this.#signal?.throwIfAborted();
      const used = this.#runner.use(this.#tools, this.#given, (connection, sandbox) => {
        if (this.#failure) throw this.#failure.reason;
        this.#connection = connection;
        this.#supervisor.runs.set(this.#id, this);
        const stream = this.#lines || this.#onConsole ? true : undefined;
        const outcome = connection.request("run", { ...params, sandbox, stream });
        if (this.#cancelled) this.cancel();
        return outcome;
      });
      const outcome = await Promise.race([used, this.#failed]);
      if (this.#failure) throw this.#failure.reason;
      this.#lines?.end();
      return outcome.error ? { ...outcome, error: new GuestError(outcome.error) } : outcome;
    } catch (error) {
      this.#lines?.end({ reason: this.#failure ? this.#failure.reason : error });
      throw error;
    } finally {
      this.#signal?.removeEventListener("abort", aborted);
      this.#supervisor.runs.delete(this.#id);
      this.#over.abort(new Error("the run has ended"));
    }
  }
}

/** Entries of a console, in the order in which they come, for one reader, who also gets why a run has no outcome. */
class Lines {
  #entries = [];
  #ended = false;
  #failure = null;
  #wake = null;

  push(entry) {
    this.#entries.push(entry);
    this.#wake?.();
  }

  end(failure = null) {
    this.#ended = true;
    this.#failure = failure;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      const entries = this.#entries;
      this.#entries = [];
      yield* entries;
      if (entries.length) continue;
      if (this.#failure) throw this.#failure.reason;
      if (this.#ended) return;
      await new Promise((resolve) => (this.#wake = resolve));
      this.#wake = null;
    }
  }
}
