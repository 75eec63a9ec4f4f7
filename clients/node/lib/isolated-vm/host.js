// The host's side of the drop-in for isolated-vm: functions that one guest may call. What comes from the guest is hostile: it
// chooses numbers and arguments as it likes, and reaches nothing but functions that were given to it.

import { codec } from "./codec.js";

/** Promises of functions that a guest may leave without asking for their results. */
const MOST_PROMISED = 1024;

export const unknown = () => {
  throw new TypeError("A non-transferable value was passed");
};

/** The functions of this process that one guest may call. */
export class Host {
  #next = 1;
  #functions = new Map();
  #promised = new Map();
  /** The number of the call that is next, and calls that came before their turn. */
  #due = 1;
  #early = new Map();
  #codec = codec(() => undefined, unknown);

  /** Lets the guest call a function, by the number that this returns. */
  add(call) {
    this.#functions.set(this.#next, call);
    return this.#next++;
  }

  /** Performs calls in the order in which the guest made them, which is not the order in which they come. Never throws. */
  receive(params, answer) {
    const { turn, ticket, ...call } = Object(params);
    if (turn === undefined) {
      const promised = this.#promised.get(ticket);
      this.#promised.delete(ticket);
      if (promised) promised.then((value) => answer({ value }), (error) => answer({ error }));
      else answer({ error: new TypeError("there is no such call") });
      return;
    }
    if (!Number.isSafeInteger(turn) || this.#early.has(turn)) {
      answer({ error: new TypeError("this is not the turn of a call") });
      return;
    }
    this.#early.set(turn, { call, answer });
    while (this.#early.has(this.#due)) this.#take(this.#due);
  }

  /** Performs what is left when an operation has ended, whose other calls were not sent. */
  flush(turns) {
    for (const turn of [...this.#early.keys()].sort((a, b) => a - b)) this.#take(turn);
    this.#due = Number.isSafeInteger(turns) ? turns + 1 : 1;
  }

  /** Refuses what still waits for its turn, when the guest has ended: a call without an answer would be kept for ever. */
  end() {
    for (const { answer } of this.#early.values()) answer({ error: new Error("Isolate is disposed") });
    this.#early.clear();
  }

  #take(turn) {
    const { call, answer } = this.#early.get(turn);
    this.#early.delete(turn);
    this.#due = turn + 1;
    answer(this.#perform(call));
  }

  #perform({ id, args }) {
    try {
      const call = this.#functions.get(id);
      if (!call) throw new TypeError("Reference has been released");
      const value = call(...args.map(this.#codec.decode));
      const text = (value) => JSON.stringify(this.#codec.encode(value));
      if (typeof value?.then !== "function") return { value: text(value) };
      if (this.#promised.size >= MOST_PROMISED) throw new RangeError("too many calls whose results the guest does not take");
      // The guest learns at once that the call was taken, so that a caller who cannot wait for promises goes on.
      const later = Promise.resolve(value).then(text);
      later.catch(() => {});
      this.#promised.set(this.#next, later);
      return { value: JSON.stringify({ $: "later", ticket: this.#next++ }) };
    } catch (error) {
      return { error: error ?? new Error("undefined") };
    }
  }
}
