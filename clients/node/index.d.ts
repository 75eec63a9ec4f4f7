/** A value of JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** How strongly the guest is confined. */
export type Level = "thread" | "process" | "container";

/** Bytes as a number, or a text such as `"64mb"`. */
export type Size = number | string;

/** Milliseconds as a number, or a text such as `"500ms"` or `"2s"`. */
export type Time = number | string;

/** A schema: JSON Schema, an object with `toJSONSchema()`, or one with the interface of Standard Schema, such as zod's. */
export type Schema =
  | { readonly [keyword: string]: unknown }
  | { toJSONSchema(): unknown }
  | { readonly "~standard": unknown };

/** What a tool gets in addition to its input. */
export interface ToolContext {
  /** Aborts when the run has ended, so that nobody waits for the result. */
  readonly signal: AbortSignal;
}

/** A function of the host. Its input is JSON from the guest, so it is not to be trusted. What it throws reaches the guest as an
 * `Error` with the same `name`, `message` and `code`; the stack does not. */
export type ToolFunction = (input: any, context: ToolContext) => unknown;

/** A tool with a description. */
export interface Tool {
  call: ToolFunction;
  description?: string;
  /** A schema with the interface of Standard Schema checks and converts the input before the call. JSON Schema describes only. */
  inputSchema?: Schema;
  outputSchema?: Schema;
}

export type Tools = Record<string, ToolFunction | Tool>;

/** What a guest is granted, and its limits. Nothing is granted unless it is stated here. */
export interface Grants {
  /** Functions of this process that the guest calls as `tools.NAME(input)`. */
  tools?: Tools;
  /** Files by their paths: modules that the code imports, and data. */
  files?: Record<string, string | Uint8Array | ArrayBuffer>;
  /** Hosts that `fetch` may reach, such as `"api.example.com"` or `"*.example.com:8443"`. */
  fetch?: string[];
  /** Values of `NETWORK.env`. */
  env?: Record<string, Json>;
  /** Grants by name, as `{ FILES: { files: { path: "/srv/data" } } }`. */
  grants?: Record<string, Record<string, unknown>>;
  /** CPU time of one run. Default: 10 s. */
  cpu?: Time;
  /** Memory of the guest. Default: 128 MB. */
  memory?: Size;
  /** Elapsed time of one run. Default: 30 s. */
  timeout?: Time;
  /** How much of the console is kept. Default: 1 MB. */
  output?: Size;
}

export interface SandboxOptions extends Grants {
  /** Default: `"container"`. */
  level?: Level;
  /** Code that runs before each run in its isolate, in a session when the isolate starts. What it sets as properties of
   * `globalThis` is there for the code of the run, which keeps its own lines. It is compiled once. */
  prelude?: string;
  /** How many isolates are kept ready, so that a run begins fast. Default: 1. */
  pool?: number;
  /** The socket of a running `stockade supervise --socket PATH`. Without it, this process starts a supervisor of its own. */
  connect?: string;
  /** The program to start. Default: that of the installed package, or else the first `stockade` in `PATH`. */
  program?: string;
}

/** For one run, in addition to what its sandbox has: names and hosts are added, limits replace those of the sandbox. The runs of
 * a session have only `timeout`, `signal` and `onConsole`. */
export interface RunOptions extends Grants {
  /** Ends the run when it aborts. The run then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Receives the console's lines as they come. If it throws, the run ends and rejects with that error. */
  onConsole?: (line: ConsoleLine) => void;
}

export interface ConsoleLine {
  level: "debug" | "info" | "warn" | "error";
  text: string;
}

export interface Usage {
  /** CPU time in milliseconds. */
  cpuMs: number;
  /** Elapsed time in milliseconds. */
  elapsedMs: number;
  /** The most memory that the guest used, in bytes, where it is known. */
  memoryBytes?: number;
}

/** A host that the guest tried to reach and that is not granted. */
export interface Refused {
  host: string;
  port: number;
  reason: string;
}

/** The outcome of one run. */
export interface Outcome<T = any> {
  /** The value of the code as JSON; `null` if it was `undefined`, absent if the run failed. */
  result?: T;
  /** Why there is no result. */
  error?: GuestError;
  console: ConsoleLine[];
  /** Whether the console had more than `output`. */
  consoleTruncated: boolean;
  usage: Usage;
  refused: Refused[];
  level: Level;
  /** The version of V8. */
  v8: string;
  /** For a session: whether this run ended its isolate, so that the next run starts with another. */
  stateLost?: true;
}

/** What the guest threw, or why its run was ended. The texts are the guest's: do not trust them. */
export class GuestError extends Error {
  readonly kind: ErrorKind;
  /** The file of the error: `"main.ts"`, or one of `files`. */
  readonly source?: string;
  /** The place in it as it was given, from 1. */
  readonly line?: number;
  readonly column?: number;
  /** The property `code` of what the guest threw, if it is a text or a number. */
  readonly code?: string;
}

export type ErrorKind =
  | "thrown"
  | "syntax"
  | "not_json"
  | "never_settles"
  | "cpu_limit_exceeded"
  | "memory_limit_exceeded"
  | "timeout"
  | "cancelled"
  | "policy_violation"
  | "crashed"
  | "not_started"
  | "prelude_failed"
  | (string & {});

/** Why a run has no outcome: invalid options, a limit of the supervisor, no supervisor, or one that ended. */
export class StockadeError extends Error {
  /** `closed`, `foreign_socket`, `no_program`, `no_supervisor`, `protocol`, `session_ended`, `supervisor_ended`, `too_large`, or a
   * word of the supervisor, such as `invalid_params` or `too_many`. */
  readonly kind: string;
  readonly limit?: unknown;
  readonly fix?: string;
}

/** A run that has begun: a promise of its outcome. It rejects with a `StockadeError`, or with the reason of an aborted signal.
 * What the guest throws is in the outcome. */
export interface Run<T = any> extends Promise<Outcome<T>> {
  /** The console's lines as they come, for one reader, which throws after the last line if the run rejects. Has to be read
   * before the next `await`. */
  readonly console: AsyncIterable<ConsoleLine>;
  /** Ends the run. Its outcome has an error of the kind `cancelled`. */
  cancel(): void;
}

declare abstract class Runner implements AsyncDisposable {
  constructor(options?: SandboxOptions);
  /** Runs JavaScript or TypeScript, and returns its outcome. */
  run<T = any>(code: string, options?: RunOptions): Run<T>;
  /** Closes it, which ends what still runs. */
  close(): Promise<void>;
  /** What the supervisor is. Starts it if needed. */
  info(): Promise<{ name: string; version: string; v8: string; protocol: number; levels: Level[] }>;
  /** What this process has open at its supervisor, and what the whole supervisor has. */
  stats(): Promise<{ sandboxes: number; runs: number; tools: number; isolates: number; clients: number }>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Runs each piece of code in an isolate that nothing else has used. */
export class Sandbox extends Runner {
  /** A session with the options of this sandbox, and these. */
  session(options?: SandboxOptions): Session;
}

/** Runs pieces of code one after another in the same isolate: globals and top-level declarations live on between them. */
export class Session extends Runner {}

/**
 * The path of the program: that of the package for this platform, or else the first `stockade` in `PATH`.
 * @throws if there is none
 */
export function program(): string;
