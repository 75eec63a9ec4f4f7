// A connection to `stockade supervise`: JSON-RPC 2.0, one object a line, over the pipes of a program that this process
// started, or over a socket. docs/internals/supervise.md describes the messages.
//
// The connection keeps the event loop alive only while a request has no answer.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { StockadeError } from "./errors.js";

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

export class Connection {
  #output;
  #handles;
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
    const connection = new Connection(child.stdout, child.stdin, [child, child.stdin, child.stdout, child.stderr]);
    child.on("error", (error) => {
      connection.#end(new StockadeError("no_supervisor", `cannot start ${program}: ${error.message}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
      connection.#end(new StockadeError("supervisor_ended", `${program} supervise ${how}${words.trim() && `:\n${words.trim()}`}`));
    });
    return connection;
  }

  /** @param {string} path the socket of `stockade supervise --socket` */
  static connected(path) {
    const socket = connect(path);
    const connection = new Connection(socket, socket, [socket]);
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

  constructor(input, output, handles) {
    this.#output = output;
    this.#handles = handles;
    /** Resolves with the reason when the connection has ended. */
    this.ended = new Promise((resolve) => (this.#whenEnded = resolve));
    /** What the supervisor answered to `initialize`, or `null` until then. */
    this.info = null;
    output.on("error", () => {}); // the end of the connection reports it
    let rest = [];
    let size = 0;
    input.on("data", (chunk) => {
      let from = 0;
      for (let at; (at = chunk.indexOf(10, from)) >= 0; from = at + 1) {
        rest.push(chunk.subarray(from, at));
        const line = Buffer.concat(rest);
        [rest, size] = [[], 0];
        this.#receive(line);
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
    const info = await this.#ask("initialize", { client: "stockade-node", version: VERSION ?? "0.0.0" });
    if (info.protocol !== PROTOCOL) {
      const problem = `this package speaks protocol ${PROTOCOL}, and the program of version ${info.version} speaks ${info.protocol}`;
      this.close();
      throw new StockadeError("protocol", problem, { fix: "use the program and the package of the same version" });
    }
    return (this.info = info);
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

  /** Closes the connection; a program that this process started ends. */
  close() {
    this.#output.end();
  }

  #receive(line) {
    let message;
    try {
      message = JSON.parse(line.toString());
    } catch {
      this.#fail("a line that is not JSON");
      return;
    }
    if (message.method !== undefined) {
      if (message.id !== undefined) this.#answer(message);
      else if (message.method === "console") this.onConsole(message.params);
      return;
    }
    const waiting = this.#pending.get(message.id);
    if (!waiting) return;
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#keepAlive(false);
    const { error } = message;
    if (error) waiting.reject(new StockadeError(error.data?.kind ?? "supervisor", error.message, error.data));
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
      // The guest gets the message and the name, and nothing else of the host.
      const { name = "Error", message = error } = Object(error);
      answer = `"error":${JSON.stringify({ code: -32000, message: String(message), data: { name: String(name) } })}`;
    }
    if (!this.#ended) this.#output.write(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},${answer}}\n`);
  }

  /** Ends the connection to something that does not speak the protocol. */
  #fail(sent) {
    this.close();
    this.#end(new StockadeError("protocol", `the supervisor sent ${sent}`, { fix: "use the program and the package of the same version" }));
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
