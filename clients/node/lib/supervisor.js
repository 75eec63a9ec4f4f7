// The supervisors of this process: one for each program that it started and each socket that it is connected to. All
// sandboxes share them.

import { Connection } from "./connection.js";
import { StockadeError } from "./errors.js";
import { program } from "./program.js";

/** How long a supervisor without sandboxes stays, in milliseconds, as the client for Python has it. It does not keep the process alive. */
const LINGER = 5_000;

const supervisors = new Map();

function found() {
  try {
    return program();
  } catch (error) {
    throw new StockadeError("no_program", error.message, { cause: error });
  }
}

/** A supervisor that is started or connected to when it is needed, and again after it ended. */
export class Supervisor {
  #key;
  #open;
  #users = 0;
  #connection = null;
  #lingering;
  /** Runs by their names: who receives calls of tools and the console. */
  runs = new Map();

  /** The supervisor for these options, with one more user: each `acquire` needs a `release`. */
  static acquire({ connect, program: path }) {
    const key = connect ? `socket:${connect}` : `program:${path ?? ""}`;
    let one = supervisors.get(key);
    if (!one) {
      one = new Supervisor(key, () => (connect ? Connection.connected(connect) : Connection.spawned(path ?? found())));
      supervisors.set(key, one);
    }
    one.#users += 1;
    clearTimeout(one.#lingering);
    return one;
  }

  constructor(key, open) {
    this.#key = key;
    this.#open = open;
  }

  release() {
    this.#users -= 1;
    if (this.#users > 0) return;
    this.#lingering = setTimeout(() => {
      supervisors.delete(this.#key);
      this.#connection?.close();
      this.#connection = null;
    }, LINGER);
    this.#lingering.unref?.();
  }

  /** The connection, which is opened if there is none. */
  get connection() {
    if (this.#connection) return this.#connection;
    const connection = this.#open();
    connection.onConsole = ({ run, level, text }) => this.runs.get(run)?.print({ level, text });
    connection.onTool = ({ run, name, input }) => {
      const running = this.runs.get(run);
      if (!running) throw new Error("the run has ended");
      return running.callTool(name, input);
    };
    connection.ended.then(() => {
      if (this.#connection === connection) this.#connection = null;
    });
    return (this.#connection = connection);
  }
}
