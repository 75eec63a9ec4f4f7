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
   * Takes a connection of a listener with `connect`; of a listener with `protocol: udp`, the datagrams of one client. The
   * connection stays open after it returns; if it throws, the connection is closed and the error is logged.
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
  /** Base of classes whose objects are passed to other sites by reference: the other site can call their methods. */
  export abstract class RpcTarget {
    /** Called when no other site holds the object any more. */
    [Symbol.dispose]?(): void;
  }
  /** What every stub is an instance of. */
  export abstract class RpcStub {}
  /** What every result of a call of another site, or of a stub, is an instance of. */
  export abstract class RpcPromise {}
  /** The same object that handlers receive as `env`. */
  export const env: any;
  /** `ctx.waitUntil` of the handler that this is called in. Throws a `TypeError` outside of handlers. */
  export function waitUntil(promise: unknown): void;
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
  /** With `udp`, which only connections of clients have, each chunk of the streams is a datagram. */
  readonly protocol: "tcp" | "udp";
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
  /** The token with which the client was let in, where the instance has `auth: { jwt }`. It never has the token itself. */
  readonly jwt?: {
    /** The claim `sub`. */
    readonly subject: string | null;
    readonly claims: Readonly<Record<string, unknown>>;
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
 * primitive values except symbols, bytes, byte streams, functions and objects of classes that extend `RpcTarget`; anything
 * else causes a `TypeError`. The other site receives a {@link Stub} for a function or such an object.
 *
 *     interface Env { notes: Service<{ count(): Promise<number>; open(): Promise<Stub<Draft>> }> }
 */
type Service<Methods = { [method: string]: (...args: any[]) => Promise<any> }> = Fetcher & {
  [Name in keyof Methods]: Methods[Name] extends (...args: infer Args) => Promise<infer Value> ? (...args: Args) => Called<Value> : never;
};

/** What a call of another site gives: a promise, and the methods and properties of its value before it is there. */
type Called<Value> = Promise<Value> & (Value extends object ? Omit<Reached<Value>, "catch" | "dup" | "finally" | "then"> : unknown);

/** The methods and properties of an object of another site, each of them a call to that site. */
type Reached<Target> = {
  [Name in keyof Target as Name extends string ? Name : never]: Target[Name] extends
    (...args: infer Args) => infer Result ? (...args: Args) => Called<Awaited<Result>> : Promise<Awaited<Target[Name]>>;
};

/** A function or an object of another site. */
type Stub<Target = (...args: any[]) => unknown> =
  & (Target extends (...args: infer Args) => infer Result ? (...args: Args) => Called<Awaited<Result>> : Reached<Target>)
  & {
    /** Another stub for the same function or object. */
    dup(): Stub<Target>;
    /** Ends the stub. It ends with the request that it was received in anyway. */
    [Symbol.dispose](): void;
  };

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
  /** Replaces the file when all data has been written, or changes nothing. With `offset`, writes from there on in place. */
  write(path: string, data: FileData, options?: { createNew?: boolean; offset?: number }): Promise<FileInfo>;
  /** Writes after the end of the file, in place. */
  append(path: string, data: FileData, options?: { createNew?: boolean }): Promise<FileInfo>;
  /** Cuts the file to a length, 0 by default, or fills it up with zeros. */
  truncate(path: string, length?: number): Promise<FileInfo>;
  /** Writes what one file holds to another, as `write` does. */
  copy(from: string, to: string, options?: { createNew?: boolean }): Promise<FileInfo>;
  /** Moves a file or folder at once. A file takes the place of a file, a folder that of an empty folder. */
  rename(from: string, to: string, options?: { createNew?: boolean }): Promise<null>;
  /** Returns whether the file or folder existed. */
  delete(path: string): Promise<boolean>;
  createFolder(path: string): Promise<null>;
  /** Reports changes of a file, or in a folder, from when the promise is fulfilled. The stream ends when it is cancelled. */
  watch(path?: string, options?: { recursive?: boolean }): Promise<ReadableStream<FileChange>>;
}
type FileData = string | ArrayBufferView | ArrayBuffer | ReadableStream;
interface FileChange {
  /** `create` also for a file that was replaced; `rescan`: changes were lost, and `path` must be listed again. */
  kind: "create" | "modify" | "remove" | "rescan";
  path: string;
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

/** A peer of a tunnel. */
interface WireguardTunnelPeer {
  publicKey: string;
  allowedIps: string[];
  /** Milliseconds since the last handshake; `null` without a session. */
  sinceHandshake: number | null;
  /** Bytes for the peer, and from it. */
  sent: number;
  received: number;
}
/** A grant of the kind `wireguard_tunnel`. Rules lead connections through it with `via`. */
interface WireguardTunnel {
  status(): Promise<WireguardTunnelPeer[]>;
}

/** A peer that a grant of the kind `wireguard` made. */
interface WireguardPeer {
  publicKey: string;
  /** Its networks, as `10.8.0.2/32`. */
  allowedIps: string[];
  /** Where its last message came from; `null` before the first. */
  endpoint: string | null;
  /** Milliseconds since 1970-01-01 UTC; `null` before the first handshake. */
  latestHandshake: number | null;
  /** Bytes from the peer, and to it. */
  rx: number;
  tx: number;
}
/** A grant of the kind `wireguard`. */
interface WireguardPeers {
  /** The peers that the grant made. */
  peers(): Promise<WireguardPeer[]>;
  /**
   * Adds a peer, or replaces its networks and its preshared key. `publicKey` is needed with `keys: guest`, and refused
   * with `keys: host`. Without `allowedIps`, a new peer gets the lowest free address.
   */
  addPeer(
    peer?: { publicKey?: string; presharedKey?: string; allowedIps?: string[] },
  ): Promise<{ publicKey: string; allowedIps: string[] }>;
  /** Returns whether the grant had made such a peer. */
  removePeer(publicKey: string): Promise<boolean>;
  /** The lowest free address, as a network. It is not reserved. */
  newAddress(): Promise<string>;
  /** The client's file for `wg-quick`. */
  clientConfig(publicKey: string): Promise<string>;
  /** The same as a QR code, in SVG. */
  clientQr(publicKey: string): Promise<string>;
}

// A grant of the kind `key` is a `CryptoKey`: `interface Env { JWT: CryptoKey }`.

/** An event that is to be signed (NIP-01). */
/** A signature that was checked. */
interface PgpSignature {
  /** Made by one of the keys, for exactly this data, while the key was good, and not expired. */
  valid: boolean;
  /** Of the certificate that made it, in lower-case hexadecimal digits; `null` where no key fits. */
  fingerprint: string | null;
  created: Date | null;
}
interface PgpChecked {
  /** Whether at least one signature is valid. */
  valid: boolean;
  signatures: PgpSignature[];
}
/** What OpenPGP reads. A stream is read to its end first. */
type PgpData = string | BufferSource | ReadableStream<Uint8Array>;
/** Public keys, as armor or bytes. */
type PgpKeys = string | BufferSource | (string | BufferSource)[];
/**
 * OpenPGP with keys of the host, of the kind `pgp`. A usage that is not granted is an `InvalidAccessError`, what cannot be
 * read a `DataError`, and a message that cannot be decrypted an `OperationError`.
 */
interface Pgp {
  /** The public half of the grant's key, as armor. */
  publicKey(): Promise<string>;
  sign(data: PgpData, options?: { armor?: true; detached?: boolean; cleartext?: boolean }): Promise<string>;
  sign(data: PgpData, options: { armor: false; detached?: boolean }): Promise<Uint8Array>;
  /** Encrypts to the recipients of the grant and to these. */
  encrypt(data: PgpData, options?: { recipients?: PgpKeys; sign?: boolean; armor?: true }): Promise<string>;
  encrypt(data: PgpData, options: { recipients?: PgpKeys; sign?: boolean; armor: false }): Promise<Uint8Array>;
  /** `valid` and `signatures` say who signed it: an encrypted message need not be signed. */
  decrypt(message: PgpData, options: "text" | { keys?: PgpKeys; type: "text" }): Promise<PgpChecked & { data: string }>;
  decrypt(message: PgpData, options?: { keys?: PgpKeys }): Promise<PgpChecked & { data: Uint8Array }>;
  /** Checks a signature that stands alone. */
  verify(data: PgpData, options: { signature: string | BufferSource; keys?: PgpKeys }): Promise<PgpChecked>;
  /** Checks a signed message, and gives its data. */
  verify(message: PgpData, options: "text" | { keys?: PgpKeys; type: "text" }): Promise<PgpChecked & { data: string }>;
  verify(message: PgpData, options?: { keys?: PgpKeys }): Promise<PgpChecked & { data: Uint8Array }>;
}

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
 * A server for the guest's own driver, of the kind `redis`; the kinds `postgres` and `mysql` are a {@link SqlServer}. Only
 * `connect()` knows the host, and the user and the password mean nothing.
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

/** A MongoDB database for the guest's own driver, of the kind `mongo`. Only `connect()` knows the host, and there is no user. */
interface Mongo {
  readonly connectionString: string;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** Opens a connection on which MongoDB's protocol is spoken. */
  connect(): Socket;
}

/** A value of a row. An `int8` or `bigint` is a `bigint` where a number cannot hold it exactly. */
type SqlCell = null | boolean | number | bigint | string | Date | Uint8Array | SqlCell[] | { [key: string]: any };
/** A parameter. An array is an array of PostgreSQL, and JSON for MySQL; another object is JSON. */
type SqlArgument = null | boolean | number | bigint | string | Date | ArrayBuffer | ArrayBufferView | object;

/** The rows of a result, and what else the database said. */
interface SqlRows<Row> extends Array<Row> {
  readonly columns: { name: string; type: string }[];
  /** How many rows the statement gave or changed. */
  readonly count: number;
  /** What was done, such as `INSERT`; empty for MySQL. */
  readonly command: string;
  /** What MySQL generated for an `AUTO_INCREMENT` column. */
  readonly lastInsertId?: number | bigint;
}

/** A statement, which runs when it is awaited; or a part of another one, in whose template it stands as a value. */
interface SqlQuery<Row = Record<string, any>> extends PromiseLike<SqlRows<Row>> {
  catch<T>(rejected: (error: any) => T | PromiseLike<T>): Promise<SqlRows<Row> | T>;
  finally(work: () => void): Promise<SqlRows<Row>>;
  /** Runs the statement now. */
  execute(): this;
  /** Gives each row as an array, so that columns of one name do not replace each other. */
  values(): SqlQuery<SqlCell[]>;
  /** Gives the rows in parts of `rows` (100), each when it is asked for, in a transaction. */
  cursor(rows?: number): AsyncIterableIterator<SqlRows<Row>>;
}

/** What runs statements: `` sql`select * from t where id = ${id}` ``. Values are parameters, and never part of the text. */
interface SqlTag {
  <Row = Record<string, any>>(strings: TemplateStringsArray, ...values: (SqlArgument | SqlIdentifier | SqlQuery<any>)[]): SqlQuery<Row>;
  /** The name of a table or a column, for a template. A dot separates the names of a schema and a table. */
  (name: string): SqlIdentifier;
  /** A statement whose text the caller answers for, with parameters `$1` (PostgreSQL) or `?` (MySQL). */
  unsafe<Row = Record<string, any>>(text: string, parameters?: SqlArgument[]): SqlQuery<Row>;
  /** A parameter of JSON. */
  json(value: unknown): SqlArgument;
}

/** The name of a table or a column. */
declare class SqlIdentifier {
  private constructor();
}

interface SqlTransactionTag extends SqlTag {
  /** Runs `work` in a part of the transaction, which is undone alone when `work` fails. */
  savepoint<T>(work: (sql: SqlTransactionTag) => T | PromiseLike<T>): Promise<T>;
  /** The same as `savepoint`. */
  begin<T>(work: (sql: SqlTransactionTag) => T | PromiseLike<T>): Promise<T>;
}

interface SqlBegin {
  isolation?: "read uncommitted" | "read committed" | "repeatable read" | "serializable";
  readOnly?: boolean;
}

interface Sql extends SqlTag {
  /** Runs `work` in a transaction, which is committed when its promise is fulfilled and otherwise rolled back. */
  begin<T>(work: (sql: SqlTransactionTag) => T | PromiseLike<T>): Promise<T>;
  begin<T>(options: SqlBegin, work: (sql: SqlTransactionTag) => T | PromiseLike<T>): Promise<T>;
}

/** What the database, or a limit of the grant, refuses. */
interface DatabaseError extends Error {
  readonly name: "DatabaseError";
  /** SQLSTATE, such as `23505`. */
  readonly code: string;
  /** MySQL's number of the error. */
  readonly errno?: number;
  readonly detail?: string;
  readonly hint?: string;
  readonly schema?: string;
  readonly table?: string;
  readonly column?: string;
  readonly constraint?: string;
  /** Where it is in the statement's text: a count of characters, from 1. */
  readonly position?: number;
}

/** A database of the kind `postgres` or `mysql`, for statements and for the guest's own driver. */
interface SqlServer extends Hyperdrive {
  readonly sql: Sql;
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
