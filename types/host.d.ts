/**
 * What a host script of `stockade run` sees: `V8Sandbox`, `Isolate` and the `Deno` namespace.
 *
 *     /// <reference path="./types/host.d.ts" />
 *
 * The types of `Deno` come from the npm package `@types/deno`; those of the web platform from
 * TypeScript's own library (`DOM` or `WebWorker`). types/README.md says how to set both up.
 */

/// <reference types="deno" />

/** Types of options, events and answers. */
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
   * What can be sent: JSON and, beyond it, byte arrays and byte streams. What JSON drops is dropped; a
   * cycle or a BigInt throws a TypeError at the sender.
   */
  type Sendable<T> = T extends bigint | symbol | ((...args: never[]) => unknown) ? never : T;

  /**
   * How strongly an isolate is walled in. `thread` is for code that is trusted not to carry an exploit
   * of V8.
   */
  type Isolation = "thread" | "process" | "container" | "vm";

  /** Where a guest's `console` goes: nowhere, to the system event `console`, or to the host's output. */
  type ConsoleMode = "silent" | "event" | "inherit";

  /** Whether memory of an isolate's worker may be written and then executed. */
  type Wx = "jit" | "strict";

  /** Whether an isolate's worker must be in a cgroup. */
  type CgroupUse = "auto" | "require";

  /** What `env` may hold: JSON, and functions that run in the host when the guest calls them. */
  type EnvValue =
    | JsonValue
    | ((...args: any[]) => unknown)
    | readonly EnvValue[]
    | { readonly [key: string]: EnvValue | undefined };

  /** What an isolate may use. 0 means no limit, but for `maxPendingRequests`. */
  interface IsolateLimits {
    /** CPU time of one activation, in milliseconds. */
    cpuLimitMs?: number;
    /** CPU time over the isolate's life, in milliseconds. */
    cpuTotalMs?: number;
    /** Share of one core over any second; beyond it the isolate is slowed down. */
    cpuShare?: number;
    /** Elapsed time of one activation, in milliseconds. */
    wallLimitMs?: number;
    /** Wait for the answer to a request, in milliseconds, in either direction. */
    requestTimeoutMs?: number;
    /** JavaScript heap, ArrayBuffers and WebAssembly memory together, in MiB. */
    memoryLimitMb?: number;
    /** What the guest asks of its host each second: messages, requests, answers, console lines. */
    ioOpsPerSecond?: number;
    /** The bytes of what the guest asks of its host each second; at least 1024. */
    ioBytesPerSecond?: number;
    /** Requests of the guest without an answer: 1 to 16384, which is the default. */
    maxPendingRequests?: number;
  }

  /** Options of one isolate; what is left out comes from the sandbox. */
  interface IsolateOptions extends IsolateLimits {
    /** Shown in logs and in the debugger. */
    name?: string;
    isolation?: Isolation;
    /** Isolates of one group trust each other and may share a worker. Not with `thread`. */
    group?: string;
    /** `strict` runs the guest without V8's compilers. Not with `thread`. */
    wx?: Wx;
    /** `require` refuses to start without cgroups for memory and pids. Not with `thread`. */
    cgroup?: CgroupUse;
    /** How long the guest may go on once V8 was told to end it, before its worker is killed. */
    killGraceMs?: number;
    /**
     * What the guest reads as `NETWORK.env`, deeply frozen there. Functions anywhere in it are called
     * without `this`, with data; the guest gets a promise.
     */
    env?: { [key: string]: EnvValue };
    /**
     * What the guest may import: names of JavaScript, TypeScript and JSON modules with their source. One
     * called `main` runs when the isolate starts, and `call` finds what it exports.
     */
    modules?: { [specifier: string]: string };
    console?: ConsoleMode;
    /** How coarse the guest's clocks are, in microseconds. */
    timerPrecisionUs?: number;
    /** Whether the guest has `SharedArrayBuffer` and `Atomics.wait`. */
    sharedArrayBuffer?: boolean;
  }

  /** Options of a sandbox: its own, and defaults for its isolates. */
  interface SandboxOptions extends Omit<IsolateOptions, "name"> {
    /** How many isolates may compute at the same time. */
    threads?: number;
    /** How many started isolates to keep ready. */
    warm?: number;
  }

  /** Why an isolate was ended by the runtime. */
  type TerminateReason =
    | "cpu_limit_exceeded"
    | "memory_limit_exceeded"
    | "wall_limit_exceeded"
    | "crashed"
    | "policy_violation";

  /** Data of the system event `terminated`. */
  interface TerminatedEvent {
    readonly reason: TerminateReason;
    /** CPU time of the activation that was running. */
    readonly cpuMs: number;
    /** CPU time over the isolate's life. */
    readonly cpuTotalMs: number;
    /** Elapsed time of the activation. */
    readonly wallMs: number;
    readonly memoryMb: number;
    /** More about the reason, for the log: the limit, and where in the guest's code that was. May be empty. */
    readonly detail: string;
  }

  /** Data of the system event `destroyed`, the last of every isolate. */
  interface DestroyedEvent {
    readonly reason: "destroyed" | "shutdown" | "terminated";
  }

  /** Data of the system event `error`: an exception or rejection that nothing in the guest caught. */
  interface ErrorReport {
    /** Such as `TypeError`. */
    readonly name: string;
    readonly message: string;
    readonly stack: string | null;
    /** Name of the script or module, if known. */
    readonly source: string | null;
    readonly line?: number | null;
    readonly column?: number | null;
    /** What it came of, where that is known. */
    readonly cause?: ErrorReport;
    /** What an `AggregateError` holds. */
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

  /** What an isolate uses now. */
  interface IsolateStats {
    /** CPU time so far. */
    readonly cpuMs: number;
    readonly memoryMb: number;
    /** Messages on the way to the guest. */
    readonly queuedTo: number;
    /** Messages on the way from the guest. */
    readonly queuedFrom: number;
    /** Requests of the guest without an answer. */
    readonly requests: number;
    /** `evaluate`s and `call`s without an answer. */
    readonly calls: number;
  }

  /** The second argument of a request's handler. */
  interface RequestContext {
    /** Aborts when the guest gives the request up, or ends. */
    readonly signal: AbortSignal;
  }

  /** The request `fetch`, which every `fetch` of a guest becomes. */
  interface FetchRequest {
    readonly url: string;
    readonly method: string;
    readonly headers: { readonly [name: string]: string };
    readonly body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | null;
    readonly redirect: "follow" | "error" | "manual";
  }

  /** What a handler of `fetch` answers, if it gives no `Response`. */
  interface FetchAnswer {
    ok?: boolean;
    status?: number;
    statusText?: string;
    headers?: { [name: string]: string } | readonly (readonly [name: string, value: string])[];
    body?: string | Uint8Array | ArrayBuffer | ReadableStream | null;
  }
}

/** Holds isolates. */
declare class V8Sandbox {
  constructor(options?: Stockade.SandboxOptions);
  createIsolate(options?: Stockade.IsolateOptions): Promise<Isolate>;
  threadCount(): number;
  isolateCount(): number;

  /**
   * How many ended isolates have a thread that does not stop: it is inside a built-in function that V8
   * cannot interrupt, and holds its memory and a core until that returns.
   */
  abandonedCount(): number;
  /** Ends all isolates; the process can then exit by itself. */
  shutdown(): void;
  [Symbol.dispose](): void;
}

/**
 * An isolate, made by `createIsolate`. Except for `destroy` and the registration of handlers, everything
 * throws once it is destroyed.
 */
interface Isolate {
  /** Counts from 0. */
  readonly id: number;
  readonly name: string | undefined;
  readonly destroyed: boolean;
  toString(): string;

  /**
   * Runs JavaScript or TypeScript. What goes wrong inside is a system event `error`.
   */
  execute(code: string): void;

  /** The value of the last expression; rejects with the guest's error. */
  evaluate<T = any>(code: string): Promise<T>;

  /**
   * Resolves when the main module has run; rejects with why it did not. At once where there is none.
   */
  readonly ready: Promise<void>;

  /** Calls what module `main` exports, or a global function, once that module has run. */
  call<T = any>(name: string, ...args: unknown[]): Promise<T>;

  /** Throws if the guest does not take its messages as fast as they come; see `drain`. */
  send<T>(event: string, data?: Stockade.Sendable<T>): void;

  /** Resolves when at most half of the queue to the guest is in use. */
  drain(): Promise<void>;

  /**
   * `data` is what the guest sent: check it before use. The handler may be asynchronous: while many are at work
   * on much data, later messages wait.
   */
  on<T = any>(event: string, handler: (data: T) => void): this;
  /** Without a handler, all of the event. */
  off<T = any>(event: string, handler?: (data: T) => void): this;

  /** What the handler throws rejects the guest's promise with the message. */
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

  /** Gives the guest real WebSockets to the addresses that `check` allows. */
  allowWebSocket(check: (url: string) => boolean | Promise<boolean>): this;

  stats(): Stockade.IsolateStats;

  /** May be called again. Pending requests of both sides reject. */
  destroy(): void;
  [Symbol.dispose](): void;
}

declare var Isolate: { readonly prototype: Isolate };

interface ImportMeta {
  /** Address of the module. */
  url: string;
  /** Whether it is the script that was started. */
  main: boolean;
  /** Path of the module's file. */
  filename: string;
  /** Path of the folder it lies in. */
  dirname: string;
  /** Address of what `specifier` names from here. */
  resolve(specifier: string): string;
}

declare namespace Deno {
  /** Whether a resource is a terminal. */
  function isatty(rid: number): boolean;
}
