/**
 * What the code of a site sees under `stockade serve`: handlers in the form of Cloudflare's Workers, what
 * `env` holds, and the web platform.
 *
 *     /// <reference path="./types/stockade-serve.d.ts" />
 *
 *     interface Env { GREETING: string; STATE: StateNamespace; other: Fetcher }
 *     export default {
 *       async fetch(request, env, ctx) { return new Response(env.GREETING); },
 *     } satisfies ExportedHandler<Env>;
 *
 * Needs `"lib": ["ESNext"]` and `"types": []`.
 */

/// <reference lib="esnext" />
/// <reference path="./web.d.ts" />

// ---- Handlers ----

/** The default export of a site's module: at least one of the two. */
interface ExportedHandler<Env = unknown> {
  /** Answers a request. What it throws is answered with status 500 and logged. */
  fetch?(request: Request, env: Env, ctx: ExecutionContext): Response | PromiseLike<Response>;
  /** Runs at the times of `crons`. */
  scheduled?(controller: ScheduledController, env: Env, ctx: ExecutionContext): unknown;
  /** Any other method can be called by sites that have a binding to this one. */
  [method: string]: unknown;
}

/** Of one request or one run of a schedule. */
interface ExecutionContext {
  /**
   * Work that goes on after the response: the mirror is not recycled before it is done, within the site's
   * limit. A rejection is logged.
   */
  waitUntil(promise: unknown): void;
  /** Does nothing: there is no origin behind the site. */
  passThroughOnException(): void;
  readonly props: {};
}

interface ScheduledController {
  /** The expression of `crons` whose time it was. */
  readonly cron: string;
  /** That time, in milliseconds since 1970-01-01 UTC. */
  readonly scheduledTime: number;
  readonly type: "scheduled";
  /** Does nothing: a run that fails is not repeated. */
  noRetry(): void;
}
type ScheduledEvent = ScheduledController;

declare module "cloudflare:workers" {
  /** Base of a default export that is a class: each request has an object of its own. */
  export abstract class WorkerEntrypoint<Env = unknown> {
    constructor(ctx: ExecutionContext, env: Env);
    protected readonly ctx: ExecutionContext;
    protected readonly env: Env;
    fetch?(request: Request): Response | PromiseLike<Response>;
    scheduled?(controller: ScheduledController): unknown;
  }
  /** The same object that handlers get. */
  export const env: any;
}

// ---- Requests and responses ----

interface Request {
  /** What the gateway knows of the client; of a request that came from one, and of its copies. */
  readonly cf?: IncomingRequestCfProperties;
}
interface IncomingRequestCfProperties {
  /** Such as `HTTP/1.1` or `HTTP/2`. */
  readonly httpProtocol: string;
  /** Such as `TLSv1.3`; empty without TLS. */
  readonly tlsVersion?: string;
  readonly tlsCipher?: string;
  /** That of the connection, or what a trusted proxy says. */
  readonly clientIp?: string;
  readonly clientPort?: number;
  /** Names the request in the logs. */
  readonly requestId?: string;
  /** Of a client certificate, where one was given and verified. */
  readonly tlsClientAuth?: {
    readonly certPresented: "0" | "1";
    readonly certVerified: string;
    readonly certSubjectDN?: string;
    readonly certIssuerDN?: string;
    readonly certSerial?: string;
    readonly certFingerprintSHA256?: string;
    readonly certNotBefore?: string;
    readonly certNotAfter?: string;
    readonly certSan?: readonly string[];
  };
}
interface ResponseInit {
  /** With status 101: the end of a `WebSocketPair` that goes to the client. */
  webSocket?: WebSocket | null;
}
interface Response {
  readonly webSocket: WebSocket | null;
}

// ---- WebSockets of clients ----

/** Two sockets that talk to each other: one for the client, one for the handler. */
declare class WebSocketPair {
  constructor();
  0: WebSocket;
  1: WebSocket;
  [Symbol.iterator](): Generator<WebSocket, void>;
}
interface WebSocket {
  /** Of an end of a `WebSocketPair`: begins to deliver what has come. */
  accept(): void;
}

// ---- Server-sent events ----

interface EventSourceEvents {
  open: Event;
  message: MessageEvent<string>;
  error: Event;
}
/** Reads a `text/event-stream` by `fetch`, and connects again when it ends. */
declare class EventSource extends EventTarget {
  constructor(url: string | URL, init?: { withCredentials?: boolean });
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly readyState: 0 | 1 | 2;
  readonly url: string;
  /** Changes nothing: a site has no cookies of its own. */
  readonly withCredentials: boolean;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent<string>) => void) | null;
  onerror: ((event: Event) => void) | null;
  close(): void;
  addEventListener<K extends keyof EventSourceEvents>(
    type: K,
    listener: EventListenerOrObject<EventSourceEvents[K]> | null,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
}

// ---- What Workers have beyond the web platform ----

/** Bytes go through as they are, text as UTF-8. A write waits until its bytes are read. */
declare class IdentityTransformStream extends TransformStream<BufferSource | string, Uint8Array<ArrayBuffer>> {
  constructor(strategy?: { highWaterMark?: number });
}
/** The same for so many bytes, no more and no fewer. A body of its `readable` has a `Content-Length`. */
declare class FixedLengthStream extends IdentityTransformStream {
  constructor(length: number | bigint, strategy?: { highWaterMark?: number });
}
declare class Scheduler {
  private constructor();
  /** Resolves after so many milliseconds; rejects when the signal aborts. */
  wait(milliseconds: number, options?: { signal?: AbortSignal }): Promise<void>;
}
declare const scheduler: Scheduler;
interface SubtleCrypto {
  /** Whether two pieces of as many bytes are the same, in a time that does not show where they differ. */
  timingSafeEqual(a: BufferSource, b: BufferSource): boolean;
}
/** Of Node's `process`, what libraries find `node:async_hooks` with. */
declare const process: {
  /** Empty. */
  env: Record<string, string | undefined>;
  /** Empty. */
  versions: Record<string, string | undefined>;
  getBuiltinModule(id: "node:async_hooks" | "async_hooks"): typeof import("node:async_hooks");
  getBuiltinModule(id: string): object | undefined;
};
/** The same as `globalThis`. */
declare const global: typeof globalThis;

// ---- Bindings ----

/** Another site, or the site's own assets. The host of a URL says nothing. */
interface Fetcher {
  fetch(input: RequestInfo, init?: RequestInit): Promise<Response>;
}

/**
 * Another site and its methods. Arguments and results are plain objects, arrays, `Map`, `Set`, `Date`, `Error`,
 * primitive values but symbols, bytes and byte streams; anything else is a `TypeError`.
 *
 *     interface Env { notes: Service<{ count(): Promise<number> }> }
 */
type Service<Methods = { [method: string]: (...args: any[]) => Promise<any> }> = Fetcher & Methods;

/** What JSON would change, such as a `Map` or an object of a class without `toJSON`, is a `TypeError`. */
type StateValue = string | ArrayBufferView | ArrayBuffer | StateJson;
type StateJson =
  | null
  | boolean
  | number
  | readonly (StateJson | string)[]
  | { readonly [key: string]: StateJson | string | undefined };
/** Without one, a value comes as what it was put: text, bytes or JSON. */
type StateType = "text" | "json" | "bytes" | "arrayBuffer";
interface StateTypes {
  text: string;
  json: any;
  bytes: Uint8Array<ArrayBuffer>;
  arrayBuffer: ArrayBuffer;
}
interface StatePut {
  /** Seconds until the key is absent. */
  ttl?: number;
  /** Only if the key has this version; null: only if it is absent. */
  version?: number | null;
}
interface StateKey {
  key: string;
  version: number;
  /** Milliseconds since 1970-01-01 UTC. */
  expires?: number;
  /** Bytes of its value. */
  size: number;
}
interface StateChange {
  /** `lagged`: changes were missed, list the keys again. */
  type: "put" | "delete" | "expire" | "lagged";
  key?: string;
  version: number;
}

/** State that all mirrors of the site share. What a promise has said is durable. */
interface StateNamespace {
  get<T extends StateType>(key: string, type: T | { type: T }): Promise<StateTypes[T] | null>;
  get(key: string): Promise<any>;
  getWithVersion<T extends StateType>(
    key: string,
    type: T | { type: T },
  ): Promise<{ value: StateTypes[T] | null; version: number | null }>;
  getWithVersion(key: string): Promise<{ value: any; version: number | null }>;
  /** As of one instant; at most 128 keys. */
  getMany<T extends StateType>(
    keys: readonly string[],
    type: T | { type: T },
  ): Promise<Map<string, StateTypes[T] | null>>;
  getMany(keys: readonly string[]): Promise<Map<string, any>>;
  /** The new version; null if `version` was asked for and is not the key's. */
  put(key: string, value: StateValue, options?: StatePut): Promise<number | null>;
  /** Whether there was such a key, at the version asked for. */
  delete(key: string, options?: { version?: number }): Promise<boolean>;
  /** In the order of the keys' bytes; at most 1000 at once. */
  list(options?: {
    prefix?: string;
    /** From this key on. */
    start?: string;
    /** Before this key. */
    end?: string;
    limit?: number;
    cursor?: string;
    reverse?: boolean;
  }): Promise<{ keys: StateKey[]; cursor?: string; version: number }>;
  /** Several changes, all or none; at most 128 checks and changes. */
  atomic(): StateAtomic;
  /** What happens to these keys from now on, or after a version. It ends when it is cancelled. */
  watch(
    what: string | readonly string[] | { prefix: string },
    options?: { version?: number },
  ): ReadableStream<StateChange>;
  usage(): Promise<{ entries: number; bytes: number; limit: number; version: number }>;
}
interface StateAtomic {
  /** Holds if the key has this version; null: if it is absent. */
  check(key: string, version: number | null): this;
  put(key: string, value: StateValue, options?: { ttl?: number }): this;
  delete(key: string): this;
  /** Once. `check` is the number of the first check that did not hold. */
  commit(): Promise<
    { ok: true; version: number; versions: number[] } | { ok: false; check: number }
  >;
}

interface FileInfo {
  kind: "file" | "folder";
  /** Bytes. */
  size: number;
  /** Milliseconds since 1970-01-01 UTC. */
  modified: number | null;
}
interface FileRange {
  offset?: number;
  length?: number;
}

/** A granted folder. Paths are relative to it; nothing outside can be named. */
interface Files {
  list(
    path?: string,
    options?: { limit?: number; cursor?: string },
  ): Promise<{ entries: (FileInfo & { name: string })[]; cursor?: string | null }>;
  stat(path: string): Promise<FileInfo | null>;
  /** At most 16 MiB at once. */
  read(path: string, options: "text" | (FileRange & { type: "text" })): Promise<string | null>;
  read(path: string, options: "json" | (FileRange & { type: "json" })): Promise<any>;
  read(path: string, options?: FileRange): Promise<Uint8Array<ArrayBuffer> | null>;
  readStream(path: string, options?: FileRange): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | null>;
  /** All or nothing: the file is replaced when everything has been written. */
  write(
    path: string,
    data: string | ArrayBufferView | ArrayBuffer | ReadableStream,
    options?: { createNew?: boolean },
  ): Promise<FileInfo>;
  /** Whether it was there. */
  delete(path: string): Promise<boolean>;
  createFolder(path: string): Promise<null>;
}
