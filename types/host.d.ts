/**
 * What a host script of `stockade run` sees: `V8Sandbox`, `Isolate` and the `Deno` namespace.
 *
 *     /// <reference path="./types/host.d.ts" />
 *
 * The types of `Deno` come from the npm package `@types/deno`; those of the web platform from
 * TypeScript's own library (`DOM` or `WebWorker`). types/README.md says how to set both up.
 */

/// <reference types="deno" />

/** Types of options, events and results. */
declare namespace Stockade {
  /** A value that JSON can hold. */
  type JsonValue =
    | null
    | boolean
    | number
    | string
    | readonly JsonValue[]
    | { readonly [key: string]: JsonValue | undefined };

  /**
   * Data that can be sent: JSON, byte arrays and byte streams. Values that JSON drops are dropped; a
   * cycle or a BigInt throws a TypeError at the sender.
   */
  type Sendable<T> = T extends bigint | symbol | ((...args: never[]) => unknown) ? never : T;

  /**
   * How strongly an isolate is confined. `thread` is for code that you trust not to carry an exploit
   * of V8.
   */
  type Isolation = "thread" | "process" | "container" | "vm";

  /** Where a guest's `console` goes: nowhere, to the system event `console`, or to the host's output. */
  type ConsoleMode = "silent" | "event" | "inherit";

  /** Whether memory of an isolate's worker can be written and then executed. */
  type Wx = "jit" | "strict";

  /** Whether an isolate's worker must be in a cgroup. */
  type CgroupUse = "auto" | "require";

  /** The content of `env`: JSON, and functions that run in the host when the guest calls them. */
  type EnvValue =
    | JsonValue
    | ((...args: any[]) => unknown)
    | readonly EnvValue[]
    | { readonly [key: string]: EnvValue | undefined };

  /** The limits of an isolate. 0 means no limit, except for `maxPendingRequests`. */
  interface IsolateLimits {
    /** CPU time of one activation, in milliseconds. */
    cpuLimitMs?: number;
    /** CPU time over the isolate's life, in milliseconds. */
    cpuTotalMs?: number;
    /** Share of one core; above it the isolate is throttled. */
    cpuShare?: number;
    /** Elapsed time of one activation, in milliseconds. */
    wallLimitMs?: number;
    /** How long a request waits for its answer, in milliseconds, in either direction. */
    requestTimeoutMs?: number;
    /** JavaScript heap, ArrayBuffers and WebAssembly memory together, in MiB. */
    memoryLimitMb?: number;
    /** Operations that the guest requests from its host per second: messages, requests, answers, console lines. */
    ioOpsPerSecond?: number;
    /** Bytes of these operations per second; at least 1024. */
    ioBytesPerSecond?: number;
    /** Unanswered requests of the guest: 1 to 16384, which is the default. */
    maxPendingRequests?: number;
  }

  /** Options of one isolate. Options that are left out come from the sandbox. */
  /** What an approver is asked: what is to be done by whom. */
  interface GrantQuestion {
    /** The isolate, by its sandbox and number. */
    instance: string;
    /** The name of the grant. */
    binding: string;
    kind: string;
    method: string;
    /** The beginning of the arguments as JSON, at most 4 KiB. A guest wrote it. */
    arguments: string;
    /** Whether something of the arguments is not shown. */
    more: boolean;
  }
  /** Bounds of the calls of a grant; docs/config.md has the defaults of each kind. Sizes as "64kb", times as "10s". */
  interface GrantLimits {
    rate?: number;
    concurrent?: number;
    queue?: number;
    timeout?: string;
    total_requests?: number;
    total_bytes?: string;
    total_period?: string;
    max_request?: string;
    max_result?: string;
  }
  /** What an isolate is granted under one name, of exactly one kind. */
  type Grant =
    & { approve?: (asked: GrantQuestion) => boolean | PromiseLike<boolean> }
    & (
      | {
        dns: {
          names: string[];
          records?: ("A" | "AAAA" | "CNAME" | "MX" | "NS" | "PTR" | "SRV" | "TXT")[];
          servers?: string[];
          allow_private?: string[];
          limits?: GrantLimits;
        };
      }
      | {
        files: {
          path: string;
          mode?: "read" | "write";
          storage?: string;
          max_file?: string;
          limits?: GrantLimits & { handles?: number };
        };
      }
      | {
        sqlite: {
          file: string;
          mode?: "read" | "write";
          storage?: string;
          memory?: string;
          statement?: string;
          transaction?: string;
          idle?: string;
          isolation?: "container" | "process";
          limits?: GrantLimits & { handles?: number };
        };
      }
      | {
        pgp: {
          secret?: string | { file: string } | { variable: string };
          passphrase?: string | { file: string } | { variable: string };
          recipients?: string[];
          usages: ("sign" | "decrypt" | "encrypt" | "verify")[];
          guest_keys?: boolean;
          time?: string;
          memory?: string;
          idle?: string;
          isolation?: "container" | "process";
          limits?: GrantLimits;
        };
      }
    );
  /** Limits of what a guest answers. Sizes of 0 bytes are no limit. */
  interface ServeLimits {
    /** Requests at the same time; 256 by default. */
    concurrentRequests?: number;
    /** Milliseconds until the head of a response; 30,000 by default. */
    responseTimeoutMs?: number;
    /** Bytes of the body of a request; 100 MiB by default. */
    maxBodyBytes?: number;
    /** Bytes of the body of a response; no limit by default. */
    maxResponseBytes?: number;
    /** WebSockets of clients; 1,024 by default. */
    webSockets?: number;
  }

  /** Where a server of a guest listens, and what clients may take. Times are in milliseconds. */
  interface ListenOptions {
    /** An IP address, or `localhost`; 127.0.0.1 by default. */
    hostname?: string;
    /** 8000 by default; 0 lets the system choose. */
    port?: number;
    /** Shuts the server down. */
    signal?: AbortSignal;
    onListen?: (addr: Deno.NetAddr) => void;
    connections?: number;
    connectionsPerAddress?: number;
    headerTimeoutMs?: number;
    bodyTimeoutMs?: number;
    writeTimeoutMs?: number;
    idleTimeoutMs?: number;
    webSocketMessageBytes?: number;
  }

  /** A server whose requests a guest answers. */
  interface GuestServer {
    readonly addr: Deno.NetAddr;
    /** Resolves when the server is closed: to how the guest ended, or to `undefined` after `shutdown`. */
    readonly finished: Promise<string | undefined>;
    /** Lets requests end, at most for `deadlineMs` (10,000). */
    shutdown(options?: { deadlineMs?: number }): Promise<void>;
    /** The server keeps the program running. */
    ref(): void;
    unref(): void;
    [Symbol.asyncDispose](): Promise<void>;
  }

  interface IsolateOptions extends IsolateLimits {
    /**
     * The guest answers HTTP by the handlers of its main module, `export default { fetch(request, env, ctx) {…} }`, and has
     * what a site has instead of `NETWORK`. Not an option of the sandbox.
     */
    serve?: boolean | ServeLimits;
    /** What the guest finds in `NETWORK.env` by these names; see docs/grants.md. Not an option of the sandbox. */
    grants?: Record<string, Grant>;
    /** Shown in logs and in the debugger. */
    name?: string;
    isolation?: Isolation;
    /** Isolates of one group trust each other and may share a worker. Not with `thread`. */
    group?: string;
    /**
     * Its worker is copied from a template that only isolates with this name use, and shares no memory address and no hash
     * seed with the others. Without it, from the template of all others. Not with `thread`, and not with `group`.
     */
    template?: string;
    /** `strict` runs the guest without V8's compilers. Not with `thread`. */
    wx?: Wx;
    /** With `require`, the isolate does not start without cgroups for memory and pids. Not with `thread`. */
    cgroup?: CgroupUse;
    /** Milliseconds between V8's request to end the guest and the kill of its worker. */
    killGraceMs?: number;
    /**
     * The object that the guest reads as `NETWORK.env`, deeply frozen. Functions in it run in the host,
     * without `this`, and the guest gets a promise.
     */
    env?: { [key: string]: EnvValue };
    /**
     * The modules that the guest can import: names of JavaScript, TypeScript and JSON modules with their
     * source. The module `main` runs when the isolate starts, and `call` finds what it exports.
     */
    modules?: { [specifier: string]: string };
    console?: ConsoleMode;
    /** Resolution of the guest's clocks, in microseconds. */
    timerPrecisionUs?: number;
    /** Whether the guest has `SharedArrayBuffer` and `Atomics.wait`. */
    sharedArrayBuffer?: boolean;
  }

  /** Options of a sandbox, and the defaults for its isolates. */
  interface SandboxOptions extends Omit<IsolateOptions, "name"> {
    /** How many isolates may compute at length at the same time. */
    threads?: number;
    /** How many started isolates the sandbox keeps ready. */
    warm?: number;
  }

  /** Why the runtime terminated an isolate. */
  type TerminateReason =
    | "cpu_limit_exceeded"
    | "memory_limit_exceeded"
    | "wall_limit_exceeded"
    | "crashed"
    | "policy_violation";

  /** Data of the system event `terminated`. */
  interface TerminatedEvent {
    readonly reason: TerminateReason;
    /** CPU time of the current or last activation. */
    readonly cpuMs: number;
    /** CPU time over the isolate's life. */
    readonly cpuTotalMs: number;
    /** Elapsed time of the activation. */
    readonly wallMs: number;
    readonly memoryMb: number;
    /** Details for the log: the limit, and the position in the guest's code. Can be empty. */
    readonly detail: string;
  }

  /** Data of the system event `destroyed`, the last of every isolate. */
  interface DestroyedEvent {
    readonly reason: "destroyed" | "shutdown" | "terminated";
  }

  /** Data of the system event `error`: an exception or rejection that nothing in the guest caught. */
  interface ErrorReport {
    /** The class of the error, such as `TypeError`. */
    readonly name: string;
    readonly message: string;
    readonly stack: string | null;
    /** Name of the script or module, if known. */
    readonly source: string | null;
    readonly line?: number | null;
    readonly column?: number | null;
    /** The cause of the error, if it has one. */
    readonly cause?: ErrorReport;
    /** The errors of an `AggregateError`. */
    readonly errors?: readonly ErrorReport[];
  }

  /** Data of the system event `console`. */
  interface ConsoleLine {
    readonly level: "debug" | "info" | "warn" | "error";
    readonly text: string;
  }

  /** Events that come from the runtime; no guest can forge them. */
  interface SystemEvents {
    terminated: TerminatedEvent;
    destroyed: DestroyedEvent;
    error: ErrorReport;
    console: ConsoleLine;
  }

  /** The current usage of an isolate. */
  interface IsolateStats {
    /** CPU time over the isolate's life so far. */
    readonly cpuMs: number;
    readonly memoryMb: number;
    /** Messages that wait for the guest. */
    readonly queuedTo: number;
    /** Messages that wait for the host. */
    readonly queuedFrom: number;
    /** Unanswered requests of the guest. */
    readonly requests: number;
    /** Unfinished `evaluate` and `call` requests of the host. */
    readonly calls: number;
  }

  /** The size of an isolate's heap, in bytes. */
  interface HeapStatistics {
    /** Objects, garbage included. */
    readonly usedHeap: number;
    /** What V8 has of the operating system for them. */
    readonly totalHeap: number;
    /** The same, as far as it is in memory. */
    readonly totalPhysical: number;
    /** Machine code and what belongs to it. */
    readonly totalExecutable: number;
    /** How large the heap may become. */
    readonly heapLimit: number;
    /** What V8 uses outside of the heap by its own allocator. */
    readonly malloced: number;
    /** The most that this ever was. */
    readonly peakMalloced: number;
    /** ArrayBuffers, WebAssembly memory and what else the heap's objects hold elsewhere. */
    readonly external: number;
    /** Global objects; one is the guest's. */
    readonly nativeContexts: number;
    /** Global objects that were left and are still held. */
    readonly detachedContexts: number;
    /** All that counts against `memoryLimitMb`. */
    readonly held: number;
    /** The parts of the heap, such as `old_space`. */
    readonly spaces: readonly {
      readonly name: string;
      readonly used: number;
      readonly available: number;
      readonly size: number;
      readonly physical: number;
    }[];
  }

  /** The second argument of a request's handler. */
  interface RequestContext {
    /** Aborts when the guest gives up on the request or ends. */
    readonly signal: AbortSignal;
  }

  /** The request `fetch`: each `fetch` of a guest is one. */
  interface FetchRequest {
    readonly url: string;
    readonly method: string;
    readonly headers: { readonly [name: string]: string };
    readonly body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | null;
    readonly redirect: "follow" | "error" | "manual";
  }

  /** The answer of a handler of `fetch` that returns no `Response`. */
  interface FetchAnswer {
    ok?: boolean;
    status?: number;
    statusText?: string;
    headers?: { [name: string]: string } | readonly (readonly [name: string, value: string])[];
    body?: string | Uint8Array | ArrayBuffer | ReadableStream | null;
  }
}

/** A set of isolates with common defaults. */
declare class V8Sandbox {
  constructor(options?: Stockade.SandboxOptions);
  createIsolate(options?: Stockade.IsolateOptions): Promise<Isolate>;
  threadCount(): number;
  isolateCount(): number;

  /**
   * The number of terminated isolates whose thread still runs, because it is in a built-in function that V8
   * cannot interrupt. The thread keeps its memory and a core until that function returns.
   */
  abandonedCount(): number;
  /** Terminates all isolates; the process can then exit by itself. */
  shutdown(): void;
  [Symbol.dispose](): void;
}

/**
 * An isolate, created by `createIsolate`. After its end every method throws, except `destroy` and the
 * registration of handlers.
 */
interface Isolate {
  /** The number of the isolate in its sandbox, from 0. */
  readonly id: number;
  readonly name: string | undefined;
  readonly destroyed: boolean;
  toString(): string;

  /**
   * Runs JavaScript or TypeScript. An exception of the script becomes the system event `error`.
   */
  execute(code: string): void;

  /** Runs a script and returns the value of its last expression; rejects with the guest's error. */
  evaluate<T = any>(code: string): Promise<T>;

  /**
   * Resolves when the main module has run, and immediately without one; rejects if the module failed.
   */
  readonly ready: Promise<void>;

  /** Calls a function that the main module exports, or a global function, once the main module has run. */
  call<T = any>(name: string, ...args: unknown[]): Promise<T>;

  /** Sends an event to `NETWORK.on`. Throws if the queue to the guest is full; see `drain`. */
  send<T>(event: string, data?: Stockade.Sendable<T>): void;

  /** Has the guest's `fetch` handler answer a request; rejects with what it throws. Needs the option `serve`. */
  fetch(input: Request | URL | string, init?: RequestInit): Promise<Response>;

  /** Opens a server whose requests the guest answers, until the guest ends. Needs the option `serve`. */
  listen(options?: Stockade.ListenOptions): Promise<Stockade.GuestServer>;

  /** Resolves when at most half of the queue to the guest is in use. */
  drain(): Promise<void>;

  /**
   * Calls the handler for each event of the guest. `data` is untrusted: check it before use. The handler can be
   * asynchronous; while unfinished handlers hold much data, later messages wait.
   */
  on<T = any>(event: string, handler: (data: T) => void): this;
  /** Removes one handler, or all handlers of the event. */
  off<T = any>(event: string, handler?: (data: T) => void): this;

  /** Answers the guest's requests. If the handler throws, the guest's promise rejects with the message. */
  onRequest(
    method: "fetch",
    handler: (
      request: Stockade.FetchRequest,
      context: Stockade.RequestContext,
    ) => Response | Stockade.FetchAnswer | Promise<Response | Stockade.FetchAnswer>,
  ): this;
  onRequest<T = any, R = unknown, M extends string = string>(
    method: M extends "fetch" ? never : M,
    handler: (data: T, context: Stockade.RequestContext) => Stockade.Sendable<R> | Promise<Stockade.Sendable<R>>,
  ): this;

  onSystem<E extends keyof Stockade.SystemEvents>(event: E, handler: (data: Stockade.SystemEvents[E]) => void): this;

  /** Opens real WebSockets for the guest to the addresses that `check` allows. */
  allowWebSocket(check: (url: string) => boolean | Promise<boolean>): this;

  stats(): Stockade.IsolateStats;

  /**
   * Records for `seconds`, 10 by default and 300 at most, where the guest spends its CPU time, and writes it to a file
   * for Chrome's DevTools (`.cpuprofile`). The guest goes on meanwhile. `svg` is another file, for a flame graph.
   */
  cpuProfile(path: string | URL, options?: { seconds?: number; svg?: string | URL }): Promise<void>;

  /**
   * Writes everything that the guest's heap holds to a file for Chrome's DevTools (`.heapsnapshot`). The guest stands
   * still meanwhile.
   */
  heapSnapshot(path: string | URL): Promise<void>;

  /** How large the guest's heap is and of what it consists. */
  heapStatistics(): Promise<Stockade.HeapStatistics>;

  /** Terminates the isolate; further calls do nothing. Pending requests of both sides reject. */
  destroy(): void;
  [Symbol.dispose](): void;
}

declare var Isolate: { readonly prototype: Isolate };

interface ImportMeta {
  /** Address of the module. */
  url: string;
  /** Whether this module is the script that was started. */
  main: boolean;
  /** Path of the module's file. */
  filename: string;
  /** Path of the folder of the module's file. */
  dirname: string;
  /** Address that `specifier` resolves to in this module. */
  resolve(specifier: string): string;
}

declare namespace Deno {
  /** Whether a resource is a terminal. */
  function isatty(rid: number): boolean;
}
