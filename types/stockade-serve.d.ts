/**
 * The globals of a site's code under `stockade serve`: handlers in the form of Cloudflare Workers, the types of
 * `env`, and the web platform.
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

/** The default export of a site's module. It has at least one of `fetch`, `scheduled` and `connect`. */
interface ExportedHandler<Env = unknown> {
  /** Answers a request. If it throws, the client gets the status 500 and the error is logged. */
  fetch?(request: Request, env: Env, ctx: ExecutionContext): Response | PromiseLike<Response>;
  /** Runs at the times of `crons`. */
  scheduled?(controller: ScheduledController, env: Env, ctx: ExecutionContext): unknown;
  /**
   * Takes a connection of a listener with `connect`. The connection stays open after it returns; if it throws, the
   * connection is closed and the error is logged.
   */
  connect?(socket: Socket, env: Env, ctx: ExecutionContext): unknown;
  /** Sites that have a binding to this one can call any other method. */
  [method: string]: unknown;
}

/** The context of one request or one scheduled run. */
interface ExecutionContext {
  /**
   * Lets work continue after the response. The mirror is not recycled before the work is done, within the site's
   * limit. A rejection is logged.
   */
  waitUntil(promise: unknown): void;
  /** Does nothing: there is no origin behind the site. */
  passThroughOnException(): void;
  readonly props: {};
}

interface ScheduledController {
  /** The entry of `crons` that caused this run. */
  readonly cron: string;
  /** The scheduled time, in milliseconds since 1970-01-01 UTC. */
  readonly scheduledTime: number;
  readonly type: "scheduled";
  /** Does nothing, because a failed run is never repeated. */
  noRetry(): void;
}
type ScheduledEvent = ScheduledController;

declare module "cloudflare:workers" {
  /** Base of a default export that is a class. Each request gets its own object. */
  export abstract class WorkerEntrypoint<Env = unknown> {
    constructor(ctx: ExecutionContext, env: Env);
    protected readonly ctx: ExecutionContext;
    protected readonly env: Env;
    fetch?(request: Request): Response | PromiseLike<Response>;
    scheduled?(controller: ScheduledController): unknown;
    connect?(socket: Socket): unknown;
  }
  /** The same object that handlers receive as `env`. */
  export const env: any;
}

// ---- Connections ----

declare module "cloudflare:sockets" {
  /** Opens a connection that the site's `sockets` allow. An error rejects `opened` and `closed`. */
  export function connect(address: string | SocketAddress, options?: SocketOptions): Socket;
}
declare module "stockade:sockets" {
  export { connect } from "cloudflare:sockets";
  /** Sends and receives datagrams over UDP, with one address that the site's `sockets` allow. */
  export function datagram(address: string | SocketAddress): DatagramSocket;
}
interface DatagramSocket extends AsyncIterableIterator<Uint8Array>, AsyncDisposable {
  readonly opened: Promise<SocketInfo>;
  readonly closed: Promise<void>;
  /** Sends at most 65,507 bytes. UDP does not report whether they arrive. */
  send(data: string | BufferSource): Promise<void>;
  close(): Promise<void>;
}
interface SocketAddress {
  hostname: string;
  /** 1 to 65535. */
  port: number;
}
interface SocketOptions {
  /** `off` is the default. With `starttls`, `startTls` of the socket begins TLS later. */
  secureTransport?: "off" | "on" | "starttls";
  /** Whether the writable side stays open when the other side has ended. */
  allowHalfOpen?: boolean;
  /** Bytes that `writable` accepts before it is full. */
  highWaterMark?: number;
  /** The name that the server must prove, instead of the address's. */
  expectedServerHostname?: string;
}
interface SocketInfo {
  /** The address that was connected to, as the site named it. */
  remoteAddress?: string;
  localAddress?: string;
}
interface Socket extends AsyncDisposable {
  readonly readable: ReadableStream<Uint8Array>;
  /** Accepts bytes and text. */
  readonly writable: WritableStream<any>;
  readonly opened: Promise<SocketInfo>;
  /** Resolves when both sides have ended, or the site has closed it. */
  readonly closed: Promise<void>;
  /** Whether `startTls` has put another socket in its place. */
  readonly upgraded: boolean;
  readonly secureTransport: "off" | "on" | "starttls";
  /** Writes what was written before, and closes the connection. */
  close(): Promise<void>;
  /** A socket on the same connection, in TLS. */
  startTls(options?: { expectedServerHostname?: string }): Socket;
}

// ---- Requests and responses ----

interface Request {
  /** What the gateway knows about the client. Only requests from clients, and copies of them, have it. */
  readonly cf?: IncomingRequestCfProperties;
}
interface IncomingRequestCfProperties {
  /** The HTTP version, such as `HTTP/1.1` or `HTTP/2`. */
  readonly httpProtocol: string;
  /** The TLS version, such as `TLSv1.3`; empty without TLS. */
  readonly tlsVersion?: string;
  readonly tlsCipher?: string;
  /** The address of the connection, or the one that a trusted proxy states. */
  readonly clientIp?: string;
  readonly clientPort?: number;
  /** The id of the request in the logs. */
  readonly requestId?: string;
  /** The client certificate, if one was presented and verified. */
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
  /** The API key with which the client was let in, where the instance has `auth`. It never has the key's text. */
  readonly apiKey?: {
    /** Such as `key_0aB3dE5fG7h`. */
    readonly id: string;
    readonly name: string;
    readonly scopes: readonly string[];
    readonly metadata: Readonly<Record<string, unknown>>;
  };
}
interface ResponseInit {
  /** With status 101: the socket of a `WebSocketPair` that the client gets. */
  webSocket?: WebSocket | null;
}
interface Response {
  readonly webSocket: WebSocket | null;
}

// ---- WebSockets of clients ----

/** Two connected sockets: one for the client, one for the handler. */
declare class WebSocketPair {
  constructor();
  0: WebSocket;
  1: WebSocket;
  [Symbol.iterator](): Generator<WebSocket, void>;
}
interface WebSocket {
  /** Starts the delivery of messages on a socket of a `WebSocketPair`. */
  accept(): void;
}

// ---- Server-sent events ----

interface EventSourceEvents {
  open: Event;
  message: MessageEvent<string>;
  error: Event;
}
/** Reads a `text/event-stream` with `fetch`, and reconnects when it ends. */
declare class EventSource extends EventTarget {
  constructor(url: string | URL, init?: { withCredentials?: boolean });
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly readyState: 0 | 1 | 2;
  readonly url: string;
  /** Has no effect, because a site has no cookies of its own. */
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

// ---- Additions of Cloudflare Workers to the web platform ----

/** Passes bytes through unchanged, and text as UTF-8. A write waits until its bytes are read. */
declare class IdentityTransformStream extends TransformStream<BufferSource | string, Uint8Array<ArrayBuffer>> {
  constructor(strategy?: { highWaterMark?: number });
}
/** Passes exactly `length` bytes through unchanged. A body of its `readable` has a `Content-Length`. */
declare class FixedLengthStream extends IdentityTransformStream {
  constructor(length: number | bigint, strategy?: { highWaterMark?: number });
}
/** Rewrites the HTML of a response by handlers, which can return promises. */
declare class HTMLRewriter {
  /** Adds handlers for the elements that a CSS selector matches. Throws a TypeError for a selector that is not supported. */
  on(selector: string, handlers: HTMLRewriterElementHandlers): this;
  /** Adds handlers for the whole document. */
  onDocument(handlers: HTMLRewriterDocumentHandlers): this;
  /** A response whose body is the rewritten body of the given one. */
  transform(response: Response): Response;
}
interface HTMLRewriterElementHandlers {
  element?(element: HTMLRewriterElement): unknown;
  comments?(comment: HTMLRewriterComment): unknown;
  text?(text: HTMLRewriterText): unknown;
}
interface HTMLRewriterDocumentHandlers {
  doctype?(doctype: HTMLRewriterDoctype): unknown;
  comments?(comment: HTMLRewriterComment): unknown;
  text?(text: HTMLRewriterText): unknown;
  end?(end: HTMLRewriterDocumentEnd): unknown;
}
/** A stream or a response is read completely as UTF-8 after the handler. */
type HTMLRewriterContent = string | ReadableStream<Uint8Array> | Response;
interface HTMLRewriterContentOptions {
  /** Whether the content is markup; otherwise it is escaped. */
  html?: boolean;
}
interface HTMLRewriterElement {
  /** In lower case. */
  tagName: string;
  /** Pairs of name and value. The iterator throws once an attribute has been changed. */
  readonly attributes: IterableIterator<[name: string, value: string]>;
  readonly namespaceURI: string;
  /** Whether the element or its tags were removed or replaced. */
  readonly removed: boolean;
  getAttribute(name: string): string | null;
  hasAttribute(name: string): boolean;
  setAttribute(name: string, value: string): this;
  removeAttribute(name: string): this;
  before(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  after(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  prepend(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  append(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  replace(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  setInnerContent(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  remove(): this;
  removeAndKeepContent(): this;
  /** Throws a TypeError if the element cannot have an end tag. */
  onEndTag(handler: (tag: HTMLRewriterEndTag) => unknown): void;
}
interface HTMLRewriterEndTag {
  name: string;
  before(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  after(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  remove(): this;
}
interface HTMLRewriterText {
  readonly text: string;
  /** Whether it is the last part of the text; that one is empty. */
  readonly lastInTextNode: boolean;
  readonly removed: boolean;
  before(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  after(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  replace(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  remove(): this;
}
interface HTMLRewriterComment {
  text: string;
  readonly removed: boolean;
  before(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  after(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  replace(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
  remove(): this;
}
interface HTMLRewriterDoctype {
  readonly name: string | null;
  readonly publicId: string | null;
  readonly systemId: string | null;
}
interface HTMLRewriterDocumentEnd {
  append(content: HTMLRewriterContent, options?: HTMLRewriterContentOptions): this;
}
declare class Scheduler {
  private constructor();
  /** Resolves after the given milliseconds; rejects when the signal aborts. */
  wait(milliseconds: number, options?: { signal?: AbortSignal }): Promise<void>;
}
declare const scheduler: Scheduler;
interface SubtleCrypto {
  /** Compares two buffers of the same length in a time that does not depend on where they differ. */
  timingSafeEqual(a: BufferSource, b: BufferSource): boolean;
}
/** The part of Node's `process` with which libraries find `node:async_hooks`. */
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

/** Another site, or the site's own assets. The host of a URL is ignored. */
interface Fetcher {
  fetch(input: RequestInfo, init?: RequestInit): Promise<Response>;
}

/**
 * Another site and its methods. Arguments and results are plain objects, arrays, `Map`, `Set`, `Date`, `Error`,
 * primitive values except symbols, bytes and byte streams; anything else causes a `TypeError`.
 *
 *     interface Env { notes: Service<{ count(): Promise<number> }> }
 */
type Service<Methods = { [method: string]: (...args: any[]) => Promise<any> }> = Fetcher & Methods;

/** A value that JSON would change, such as a `Map` or an object of a class without `toJSON`, causes a `TypeError`. */
type StateValue = string | ArrayBufferView | ArrayBuffer | StateJson;
type StateJson =
  | null
  | boolean
  | number
  | readonly (StateJson | string)[]
  | { readonly [key: string]: StateJson | string | undefined };
/** The type in which to return a value. By default it is the type that was stored: text, bytes or JSON. */
type StateType = "text" | "json" | "bytes" | "arrayBuffer";
interface StateTypes {
  text: string;
  json: any;
  bytes: Uint8Array<ArrayBuffer>;
  arrayBuffer: ArrayBuffer;
}
interface StatePut {
  /** Seconds until the key expires. */
  ttl?: number;
  /** Stores the value only if the key has this version; null: only if the key is absent. */
  version?: number | null;
}
interface StateKey {
  key: string;
  version: number;
  /** Milliseconds since 1970-01-01 UTC. */
  expires?: number;
  /** Size of the value in bytes. */
  size: number;
}
interface StateChange {
  /** `lagged` means that changes were missed: list the keys again. */
  type: "put" | "delete" | "expire" | "lagged";
  key?: string;
  version: number;
}

/** State that all mirrors of the site share. A change is durable when its promise resolves. */
interface StateNamespace {
  get<T extends StateType>(key: string, type: T | { type: T }): Promise<StateTypes[T] | null>;
  get(key: string): Promise<any>;
  getWithVersion<T extends StateType>(
    key: string,
    type: T | { type: T },
  ): Promise<{ value: StateTypes[T] | null; version: number | null }>;
  getWithVersion(key: string): Promise<{ value: any; version: number | null }>;
  /** Returns the values of at most 128 keys at one point in time. */
  getMany<T extends StateType>(
    keys: readonly string[],
    type: T | { type: T },
  ): Promise<Map<string, StateTypes[T] | null>>;
  getMany(keys: readonly string[]): Promise<Map<string, any>>;
  /** Returns the new version, or null if the key did not have the requested `version`. */
  put(key: string, value: StateValue, options?: StatePut): Promise<number | null>;
  /** Returns whether the key existed at the requested version. */
  delete(key: string, options?: { version?: number }): Promise<boolean>;
  /** Lists keys in the order of their bytes; at most 1000 per page. */
  list(options?: {
    prefix?: string;
    /** The first key, inclusive. */
    start?: string;
    /** The last key, exclusive. */
    end?: string;
    limit?: number;
    cursor?: string;
    reverse?: boolean;
  }): Promise<{ keys: StateKey[]; cursor?: string; version: number }>;
  /** Starts a commit of several changes, of which all or none are applied; at most 128 checks and changes. */
  atomic(): StateAtomic;
  /** Reports changes of these keys from now on, or after a version. The stream ends when it is cancelled. */
  watch(
    what: string | readonly string[] | { prefix: string },
    options?: { version?: number },
  ): ReadableStream<StateChange>;
  usage(): Promise<{ entries: number; bytes: number; limit: number; version: number }>;
}
interface StateAtomic {
  /** Requires that the key has this version; null: that the key is absent. */
  check(key: string, version: number | null): this;
  put(key: string, value: StateValue, options?: { ttl?: number }): this;
  delete(key: string): this;
  /** Applies the changes, once. `check` is the index of the first check that failed. */
  commit(): Promise<
    { ok: true; version: number; versions: number[] } | { ok: false; check: number }
  >;
}

interface FileInfo {
  kind: "file" | "folder";
  /** Size in bytes. */
  size: number;
  /** Milliseconds since 1970-01-01 UTC. */
  modified: number | null;
}
interface FileRange {
  offset?: number;
  length?: number;
}

/** A granted folder. Paths are relative to it and cannot name anything outside. */
interface Files {
  list(
    path?: string,
    options?: { limit?: number; cursor?: string },
  ): Promise<{ entries: (FileInfo & { name: string })[]; cursor?: string | null }>;
  stat(path: string): Promise<FileInfo | null>;
  /** Reads at most 16 MiB. */
  read(path: string, options: "text" | (FileRange & { type: "text" })): Promise<string | null>;
  read(path: string, options: "json" | (FileRange & { type: "json" })): Promise<any>;
  read(path: string, options?: FileRange): Promise<Uint8Array<ArrayBuffer> | null>;
  readStream(path: string, options?: FileRange): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | null>;
  /** Replaces the file when all data has been written, or changes nothing. */
  write(
    path: string,
    data: string | ArrayBufferView | ArrayBuffer | ReadableStream,
    options?: { createNew?: boolean },
  ): Promise<FileInfo>;
  /** Returns whether the file or folder existed. */
  delete(path: string): Promise<boolean>;
  createFolder(path: string): Promise<null>;
}

// ---- Grants ----

/** What each type of DNS record gives. Names end with a dot. */
interface DnsRecords {
  A: string;
  AAAA: string;
  CNAME: string;
  MX: { preference: number; exchange: string };
  NS: string;
  PTR: string;
  SRV: { priority: number; weight: number; port: number; target: string };
  /** The texts of one record. */
  TXT: string[];
}
/** A grant of the kind `dns`. */
interface DnsResolver {
  /**
   * Looks up a name that the grant lists. Rejects with a `TypeError` for one that it does not list, and with the name
   * `NotFound` for one that does not exist.
   */
  resolve<T extends keyof DnsRecords = "A">(name: string, type?: T): Promise<DnsRecords[T][]>;
}

// A grant of the kind `key` is a `CryptoKey`: `interface Env { JWT: CryptoKey }`.

/** An event that is to be signed (NIP-01). */
interface NostrEventTemplate {
  kind: number;
  /** Seconds since 1970-01-01 UTC. */
  created_at: number;
  tags: string[][];
  content: string;
  /** If it is there, it must be the key of the signer. */
  pubkey?: string;
}
interface NostrEvent extends NostrEventTemplate {
  id: string;
  pubkey: string;
  sig: string;
}
interface NostrEncryption {
  encrypt(pubkey: string, plaintext: string): Promise<string>;
  decrypt(pubkey: string, ciphertext: string): Promise<string>;
}
/** A signer of the kind `nostr`, with the members of `window.nostr` (NIP-07). */
interface NostrSigner {
  getPublicKey(): Promise<string>;
  getRelays(): Promise<Record<string, { read: boolean; write: boolean }>>;
  signEvent(event: NostrEventTemplate): Promise<NostrEvent>;
  readonly nip04: NostrEncryption;
  readonly nip44: NostrEncryption;
}

/** A view of a Bitcoin chain, of the kind `electrum`. Amounts are in satoshis. */
interface Electrum {
  /** Asks for the result of a method of the Electrum protocol. */
  request(method: string, ...params: unknown[]): Promise<any>;
  /** Gives the state of something now, and each later one. Cancelling the stream ends the subscription. */
  subscribe(method: string, ...params: string[]): ReadableStream<any>;
  /** Gives the newest block, and each later one. */
  headers(): ReadableStream<any>;
  balance(address: string): Promise<{ confirmed: number; unconfirmed: number }>;
  history(address: string): Promise<{ tx_hash: string; height: number; fee?: number }[]>;
  unspent(address: string): Promise<{ tx_hash: string; tx_pos: number; height: number; value: number }[]>;
  /** Gives a transaction in hexadecimal digits; with `verbose` what the server makes of it. */
  tx(id: string, verbose?: boolean): Promise<any>;
  /** Sends a transaction in hexadecimal digits, and gives its id. Needs `broadcast: true`. */
  broadcast(transaction: string): Promise<string>;
  /** Estimates satoshis per virtual byte for a block among the next ones; null if the server cannot. */
  feeRate(blocks: number): Promise<number | null>;
}

/**
 * A server for the guest's own driver, of the kinds `postgres`, `mysql` and `redis`. Only `connect()` knows the host, and
 * the user and the password mean nothing.
 */
interface Hyperdrive {
  readonly connectionString: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** The name of the database; for Redis its number. */
  readonly database: string;
  /** Opens a connection on which the server's protocol is spoken. */
  connect(): Socket;
}

/** A payment or an invoice of a wallet. Amounts are in thousandths of a satoshi. */
interface LightningTransaction {
  type: "incoming" | "outgoing";
  state: "settled" | "pending" | "failed";
  payment_hash: string;
  preimage?: string | null;
  amount?: number;
  fees_paid?: number | null;
  /** Seconds since 1970-01-01 UTC. */
  created_at?: number;
}
/** A wallet of the kind `lightning`, with the names of Nostr Wallet Connect. Amounts are in thousandths of a satoshi. */
interface LightningWallet {
  /** Pays an invoice once. A second call for the same invoice gives the first result. */
  payInvoice(request: { invoice: string; amount?: number }): Promise<{ preimage: string; fees_paid: number }>;
  makeInvoice(request: { amount: number; description?: string; expiry?: number }): Promise<{
    type: "incoming";
    invoice: string;
    description: string;
    payment_hash: string;
    amount: number;
    expires_at: number;
  }>;
  lookupInvoice(request: { invoice: string } | { payment_hash: string }): Promise<LightningTransaction>;
  /** Gives the latest payments of this grant. */
  listTransactions(): Promise<{ transactions: LightningTransaction[] }>;
  /** Gives what is left of the day's limit; not the balance of the wallet. */
  getBalance(): Promise<{ balance: number }>;
  getBudget(): Promise<{ used_budget: number; total_budget: number; renews_at: number; renewal_period: "daily" }>;
  readonly webln: WebLNProvider;
}
/** The same wallet with the names of WebLN. Amounts are in satoshis. */
interface WebLNProvider {
  enable(): Promise<void>;
  getInfo(): Promise<{ node: { alias: string; pubkey: string }; version: string; supports: string[]; methods: string[] }>;
  makeInvoice(request: number | string | { amount?: number | string; defaultAmount?: number | string; defaultMemo?: string }): Promise<{
    paymentRequest: string;
    rHash: string;
  }>;
  sendPayment(paymentRequest: string): Promise<{ preimage: string }>;
  getBalance(): Promise<{ balance: number; currency: "sats" }>;
}

/** A value for a statement. Booleans become 0 and 1. */
type SqlParameter = null | boolean | number | bigint | string | ArrayBuffer | ArrayBufferView;
/** A value of a row: an integer beyond 2^53 is a bigint. */
type SqlValue = null | number | bigint | string | Uint8Array;
/** What a statement gave. */
interface SqlResult<Row = Record<string, SqlValue>> {
  success: true;
  results: Row[];
  meta: {
    /** Milliseconds. */
    duration: number;
    /** Rows that were inserted, changed or deleted. */
    changes: number;
    changed_db: boolean;
    last_row_id: number | bigint;
    /** Bytes of the database. */
    size_after: number;
    /** Steps of SQLite's virtual machine. */
    steps: number;
  };
}
/** A statement, with the values that were bound to it. */
interface SqlStatement {
  /** The statement with these values for `?1`, `?2` and so on, instead of those that were bound before. */
  bind(...values: SqlParameter[]): SqlStatement;
  all<Row = Record<string, SqlValue>>(): Promise<SqlResult<Row>>;
  run<Row = Record<string, SqlValue>>(): Promise<SqlResult<Row>>;
  /** The first row, or `null`. */
  first<Row = Record<string, SqlValue>>(): Promise<Row | null>;
  /** A column of the first row, or `null` where there is no row. */
  first<Value = SqlValue>(column: string): Promise<Value | null>;
  /** Rows as arrays, after one with the names of the columns if asked for. */
  raw<Row = SqlValue[]>(options?: { columnNames?: boolean }): Promise<Row[]>;
}
/** Where statements run. */
interface SqlTransaction {
  /** A statement, of one. */
  prepare(sql: string): SqlStatement;
  /** Runs statements, all or none of them. */
  batch<Row = Record<string, SqlValue>>(statements: SqlStatement[]): Promise<SqlResult<Row>[]>;
  /** Runs all statements of a text, all or none of them. */
  exec(sql: string): Promise<{ count: number; duration: number }>;
}
/** A grant of the kind `sqlite`. A failed statement is a `DatabaseError`, whose `code` is as `SQLITE_CONSTRAINT_UNIQUE`. */
interface SqlDatabase extends SqlTransaction {
  /**
   * Runs `work` in a transaction. It is committed when the promise of `work` is fulfilled, and rolled back when it is
   * rejected, or at the time limit. All other calls of the database wait meanwhile.
   */
  transaction<T>(work: (transaction: SqlTransaction) => T | PromiseLike<T>): Promise<T>;
  /** The database itself: it has one replica. */
  withSession(): this;
}
