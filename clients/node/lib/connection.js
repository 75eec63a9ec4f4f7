// A connection to `stockade supervise`: JSON-RPC 2.0, one object a line, over the pipes of a program that this process
// started, or over a socket. docs/internals/supervise.md describes the messages.
//
// The connection keeps the event loop alive only while a request has no answer.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { StockadeError } from "./errors.js";
import { checkedSocket } from "./socket.js";

const PROTOCOL = 1;
/** Bytes of a request. The supervisor ends a connection with a longer line, and with it all other runs. */
const MOST_LINE = 16 << 20;
/** Bytes of the result of a tool. */
const MOST_BYTES = 8 << 20;
/** Bytes of a line of the supervisor, whose largest contains a console of 16 MiB with escapes. */
const MOST_RECEIVED = 64 << 20;
/** The end of the program's standard error that an error repeats, in characters. */
const LAST_WORDS = 4096;
const VERSION = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;

/** How long a supervisor may take for its first answer, and to end once its input has ended, in milliseconds. */
const START = 30_000;
const END = 5_000;
/** The end of the message of an error of a tool that is left out, in characters. */
const MOST_MESSAGE = 4096;
/** Half of a surrogate pair, which the supervisor does not read in texts. */
const LONE_SURROGATES = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const FIX = "use the program and the package of the same version";

export class Connection {
  #output;
  #handles;
  #destroy;
  #next = 1;
  #pending = new Map();
  #ended = null;
  #whenEnded;
  /** Receives the params of each notification `console`. */
  onConsole = () => {};
  /** Receives the params of each request `tool`, and returns the result or a promise of it. */
  onTool = () => {
    throw new Error("no tools");
  };

  /** @param {string} program the program, which is started and ends with this connection */
  static spawned(program) {
    // A session of its own: Ctrl-C in a terminal is for this process, which decides what it means. The program ends when
    // this process closes the pipe, and the kernel does so even if this process is killed.
    const child = spawn(program, ["supervise"], { stdio: ["pipe", "pipe", "pipe"], detached: true });
    let words = "";
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text) => (words = (words + text).slice(-LAST_WORDS)));
    child.stderr.on("error", () => {});
    const destroy = () => {
      child.kill("SIGKILL");
      child.stdout.destroy();
    };
    const connection = new Connection(child.stdout, child.stdin, [child, child.stdin, child.stdout, child.stderr], destroy);
    child.on("error", (error) => {
      connection.#end(new StockadeError("no_supervisor", `cannot start ${program}: ${error.message}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
      connection.#end(new StockadeError("supervisor_ended", `${program} supervise ${how}${words.trim() && `:\n${words.trim()}`}`));
    });
    return connection;
  }

  /**
   * @param {string} path the socket of `stockade supervise --socket`
   * @throws {StockadeError} if another user could have put it there
   */
  static connected(path) {
    const socket = connect(checkedSocket(path));
    const connection = new Connection(socket, socket, [socket], () => socket.destroy());
    let failed;
    socket.on("error", (error) => (failed = error));
    socket.on("close", () => {
      const options = { cause: failed };
      if (failed && connection.info === null) options.fix = `stockade supervise --socket ${path}`;
      const kind = options.fix ? "no_supervisor" : "supervisor_ended";
      connection.#end(new StockadeError(kind, `the connection to ${path} ended${failed ? `: ${failed.message}` : ""}`, options));
    });
    return connection;
  }

  constructor(input, output, handles, destroy) {
    this.#output = output;
    this.#handles = handles;
    this.#destroy = destroy;
    /** Resolves with the reason when the connection has ended. */
    this.ended = new Promise((resolve) => (this.#whenEnded = resolve));
    /** What the supervisor answered to `initialize`, or `null` until then. */
    this.info = null;
    // The end of the connection reports them.
    output.on("error", () => {});
    input.on("error", () => {});
    let rest = [];
    let size = 0;
    input.on("data", (chunk) => {
      let from = 0;
      for (let at; !this.#ended && (at = chunk.indexOf(10, from)) >= 0; from = at + 1) {
        rest.push(chunk.subarray(from, at));
        const line = Buffer.concat(rest);
        [rest, size] = [[], 0];
        this.#receive(line);
      }
      if (this.#ended) {
        rest = [];
        return;
      }
      rest.push(chunk.subarray(from));
      size += chunk.length - from;
      if (size > MOST_RECEIVED) this.#fail("a line of more than 64 MiB");
    });
    this.#keepAlive(false);
    this.ready = this.#initialize();
    this.ready.catch(() => {}); // each request reports it
  }

  async #initialize() {
    const late = setTimeout(() => {
      const problem = `the supervisor does not answer within ${START / 1000} s`;
      this.#abandon(new StockadeError("no_supervisor", problem, { fix: FIX }));
    }, START);
    late.unref?.();
    try {
      const info = await this.#ask("initialize", { client: "stockade-node", version: VERSION ?? "0.0.0" });
      if (info?.protocol !== PROTOCOL) {
        const problem = `this package speaks protocol ${PROTOCOL}, and the program of version ${info?.version} speaks ${info?.protocol}`;
        const error = new StockadeError("protocol", problem, { fix: FIX });
        this.#abandon(error);
        throw error;
      }
      return (this.info = info);
    } finally {
      clearTimeout(late);
    }
  }

  /** The result of a request, which is refused with a `StockadeError`. */
  async request(method, params) {
    await this.ready;
    return this.#ask(method, params);
  }

  #ask(method, params) {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      const line = JSON.stringify({ jsonrpc: "2.0", id, method, params });
      if (Buffer.byteLength(line) >= MOST_LINE) {
        throw new StockadeError("too_large", `the request '${method}' has more than 16 MiB`, { limit: MOST_LINE, fix: "give less code or smaller files" });
      }
      this.#output.write(`${line}\n`);
      if (this.#pending.size === 0) this.#keepAlive(true);
      this.#pending.set(id, { resolve, reject });
    });
  }

  /** Closes the connection; a program that this process started ends, at the latest after some seconds. */
  close() {
    this.#output.end();
    const late = setTimeout(() => this.#destroy(), END);
    late.unref?.();
    this.ended.then(() => clearTimeout(late));
  }

  #receive(line) {
    let message;
    try {
      message = JSON.parse(line.toString());
    } catch {
      return this.#fail("a line that is not JSON");
    }
    try {
      this.#dispatch(message);
    } catch {
      this.#fail("a message that this package does not know");
    }
  }

  /** Throws if the message has another form than the protocol's. */
  #dispatch(message) {
    if (message.method !== undefined) {
      if (typeof message.params !== "object" || message.params === null) throw new TypeError("no params");
      if (message.id !== undefined) this.#answer(message);
      else if (message.method === "console") this.onConsole(message.params);
      return;
    }
    if (message.id !== null && typeof message.id !== "number") throw new TypeError("no id of this client");
    const { error } = message;
    const refused = error && new StockadeError(String(error.data?.kind ?? "supervisor"), String(error.message), error.data ?? {});
    if (message.id === null && refused) return this.#abandon(refused); // which request it was is not known
    const waiting = this.#pending.get(message.id);
    if (!waiting) return;
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#keepAlive(false);
    if (refused) waiting.reject(refused);
    else waiting.resolve(message.result);
  }

  /** Answers a request of the supervisor: the call of a tool. */
  async #answer({ id, method, params }) {
    let answer;
    try {
      if (method !== "tool") throw new Error(`no method '${method}'`);
      const result = JSON.stringify((await this.onTool(params)) ?? null);
      if (result === undefined) throw new TypeError("the result of the tool cannot be JSON");
      answer = `"result":${result}`;
      if (Buffer.byteLength(answer) > MOST_BYTES) throw new RangeError("the result of the tool is larger than 8 MiB");
    } catch (error) {
      answer = `"error":${JSON.stringify({ code: -32000, ...described(error) })}`;
    }
    if (!this.#ended) this.#output.write(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},${answer}}\n`);
  }

  /** Ends the connection to something that does not speak the protocol. */
  #fail(sent) {
    this.#abandon(new StockadeError("protocol", `the supervisor sent ${sent}`, { fix: FIX }));
  }

  /** Ends the connection at once, with nothing more read: what is at its other end may never end by itself. */
  #abandon(reason) {
    this.#end(reason);
    this.#destroy();
  }

  #end(reason) {
    if (this.#ended) return;
    this.#ended = reason;
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.#keepAlive(false);
    this.#whenEnded(reason);
  }

  #keepAlive(on) {
    for (const handle of this.#handles) handle[on ? "ref" : "unref"]?.();
  }
}

/**
 * What a tool threw, as the guest gets it: the message, the name and the code, and nothing else of the host. Any value may
 * have been thrown, and reading it may throw again.
 */
function described(error) {
  const text = (read) => {
    try {
      const value = read();
      const word = typeof value === "string" || typeof value === "number";
      return word ? String(value).slice(0, MOST_MESSAGE).replace(LONE_SURROGATES, "\ufffd") : undefined;
    } catch {
      return undefined;
    }
  };
  const isObject = (typeof error === "object" && error !== null) || typeof error === "function";
  if (!isObject) return { message: text(() => String(error)) ?? "" };
  const message = text(() => error.message) ?? text(() => String(error)) ?? "the tool failed";
  return { message, data: { name: text(() => error.name) ?? "Error", code: text(() => error.code) } };
}
