// A thread that runs sessions for the drop-in for isolated-vm, so that this thread can wait for them without an event loop.

import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";

export class Bridge {
  #port;
  #next = 1;
  #waiting = new Map();
  /** Counts the messages of the thread, so that this one can sleep until there is another. */
  #sent = new Int32Array(new SharedArrayBuffer(4));
  /** Calls a function of the host for a session: `(session, params, answer)`, where `answer` gets `{value}` or `{error}`. */
  onTool = () => {};

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const worker = new Worker(new URL("./thread.js", import.meta.url), {
      workerData: { port: port2, sent: this.#sent },
      transferList: [port2],
      execArgv: [], // --input-type of this process is not for the thread
    });
    worker.unref();
    port1.on("message", (message) => this.#receive(message));
    port1.unref();
    worker.on("error", (error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
      port1.unref();
    });
  }

  /** Posts a request, which `done` and `reject` answer. */
  #post(request, resolve, reject) {
    const id = this.#next++;
    if (this.#waiting.size === 0) this.#port.ref();
    this.#waiting.set(id, { resolve, reject });
    this.#port.postMessage({ ...request, id });
  }

  request(request) {
    return new Promise((resolve, reject) => this.#post(request, resolve, reject));
  }

  /** The same, for a caller that cannot wait for a promise. Calls of functions of the host are answered meanwhile. */
  requestSync(request) {
    let answer;
    this.#post(
      request,
      (value) => (answer = { value }),
      (error) => (answer = { error }),
    );
    while (!answer) {
      const before = Atomics.load(this.#sent, 0);
      const received = receiveMessageOnPort(this.#port);
      if (received) this.#receive(received.message);
      else Atomics.wait(this.#sent, 0, before);
    }
    if (answer.error) throw answer.error;
    return answer.value;
  }

  #receive(message) {
    if (message.call !== undefined) return this.#callTool(message);
    const { resolve, reject } = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (this.#waiting.size === 0) this.#port.unref();
    if (message.error) reject(Object.assign(new Error(message.error.message), message.error));
    else resolve(message.value);
  }

  #callTool({ call, session, params }) {
    this.onTool(session, params, ({ value, error }) => {
      if (error === undefined) this.#port.postMessage({ call, value });
      else this.#port.postMessage({ call, error: { name: String(error?.name ?? "Error"), message: String(error?.message ?? error) } });
    });
  }
}
