// HTTP by guests: `isolate.fetch` and `isolate.listen`.
//
// The bytes of clients do not pass this script: a server gives requests to its guest by itself.

import { core } from "ext:core/mod.js";
import {
  op_guest_server_event,
  op_guest_server_listen,
  op_guest_server_shutdown,
  op_isolate_fetch,
} from "ext:core/ops";

// Milliseconds that requests have to end when a server is shut down.
const SHUTDOWN = 10_000;
const MOST_SHUTDOWN = 86_400_000;

const MADE_HERE = Symbol("made here");

// Has a guest answer a request. `errorOf(error)` makes the error that the guest threw.
export async function fetchFrom(sandbox, id, input, init, errorOf) {
  const { Request } = core.loadExtScript("ext:deno_fetch/23_request.js");
  const { Response } = core.loadExtScript("ext:deno_fetch/23_response.js");
  const streams = core.loadExtScript("ext:deno_web/06_streams.js");
  const request = new Request(input, init);
  const { signal } = request;
  signal.throwIfAborted();
  const body = request.body === null ? null : streams.resourceForReadableStream(request.body);
  const cancel = core.createCancelHandle();
  let open = cancel;
  signal.addEventListener("abort", () => core.tryClose(open), { once: true });
  let fetched;
  try {
    fetched = await op_isolate_fetch(sandbox, id, {
      method: request.method,
      url: request.url,
      headers: [...request.headers],
      body,
      cancel,
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    core.tryClose(cancel);
  }
  if (fetched.kind === "thrown") throw errorOf(JSON.parse(fetched.error));
  const { status, headers } = fetched;
  if (fetched.body === null) return new Response(null, { status, headers });
  // From here on the signal ends the body.
  open = fetched.body;
  return new Response(streams.readableStreamForRid(fetched.body), { status, headers });
}

// A server whose requests a guest answers.
export class GuestServer {
  #rid;
  #next; // the promise of what happens next
  #holds = true; // whether the server keeps the script running
  addr;
  finished;

  constructor(key, { rid, hostname, port }, report) {
    if (key !== MADE_HERE) throw new TypeError("servers are made by `await isolate.listen()`");
    this.#rid = rid;
    this.addr = { transport: "tcp", hostname, port };
    this.finished = this.#watch(report);
  }

  // Reports failures of the guest until the server's end; gives how the guest ended, where that is why.
  async #watch(report) {
    for (;;) {
      this.#next = op_guest_server_event(this.#rid);
      if (!this.#holds) core.unrefOpPromise(this.#next);
      const event = await this.#next;
      if (event.kind === "over") {
        core.tryClose(this.#rid);
        return event.guest ?? undefined;
      }
      report(event.error);
    }
  }

  async shutdown({ deadlineMs = SHUTDOWN } = {}) {
    const deadline = Number(deadlineMs);
    if (!(deadline >= 0 && deadline <= MOST_SHUTDOWN)) {
      throw new RangeError(`deadlineMs must be from 0 to ${MOST_SHUTDOWN}, not ${deadlineMs}`);
    }
    // Over already where the guest has ended.
    await op_guest_server_shutdown(this.#rid, Math.trunc(deadline)).catch(() => {});
    await this.finished;
  }

  ref() {
    this.#holds = true;
    core.refOpPromise(this.#next);
  }

  unref() {
    this.#holds = false;
    core.unrefOpPromise(this.#next);
  }

  [Symbol.asyncDispose]() {
    return this.shutdown();
  }
}

// `report(error)` is called with what the guest fails to answer, as the data of the event `error`.
export async function listen(sandbox, id, options, report) {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`the options must be an object, not ${options === null ? "null" : typeof options}`);
  }
  const { signal, onListen, ...others } = options;
  signal?.throwIfAborted();
  const server = new GuestServer(
    MADE_HERE,
    await op_guest_server_listen(sandbox, id, JSON.stringify(others)),
    report,
  );
  if (signal?.aborted) await server.shutdown({ deadlineMs: 0 });
  signal?.throwIfAborted();
  signal?.addEventListener("abort", () => server.shutdown(), { once: true });
  onListen?.(server.addr);
  return server;
}
