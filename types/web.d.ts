/**
 * The web platform inside an isolate. `worker.d.ts` and `stockade-serve.d.ts` include this file.
 * Signatures follow the specifications of WHATWG and W3C.
 */

/// <reference lib="esnext" />

// ---- Base types ----

type BufferSource = ArrayBufferView<ArrayBuffer> | ArrayBuffer;
type Transferable = ArrayBuffer | MessagePort | ReadableStream | WritableStream | TransformStream;

declare var self: typeof globalThis;

interface ImportMeta {
  /** Address of the module among the modules that the host provided. */
  url: string;
}

declare class DOMException extends Error {
  constructor(message?: string, name?: string);
  readonly code: number;
}
declare class QuotaExceededError extends DOMException {
  constructor(message?: string, options?: { quota?: number; requested?: number });
  readonly quota: number | null;
  readonly requested: number | null;
}

// ---- Timers and tasks ----

declare function setTimeout<A extends unknown[]>(callback: (...args: A) => void, ms?: number, ...args: A): number;
declare function setInterval<A extends unknown[]>(callback: (...args: A) => void, ms?: number, ...args: A): number;
declare function clearTimeout(id?: number): void;
declare function clearInterval(id?: number): void;
declare function queueMicrotask(callback: () => void): void;
declare function reportError(error: unknown): void;
declare function structuredClone<T>(value: T, options?: { transfer?: Transferable[] }): T;
declare function atob(data: string): string;
declare function btoa(data: string): string;

// ---- Console ----

/** Prints nothing unless the host captures the console. */
declare const console: {
  [M in "assert" | "table" | "dir" | "dirxml" | "timeLog"]: (...data: unknown[]) => void;
} & {
  [M in "debug" | "error" | "info" | "log" | "trace" | "warn" | "group" | "groupCollapsed"]: (
    ...data: unknown[]
  ) => void;
} & {
  [M in "count" | "countReset" | "time" | "timeEnd"]: (label?: string) => void;
} & { clear(): void; groupEnd(): void };

// ---- Events ----

interface EventInit {
  bubbles?: boolean;
  cancelable?: boolean;
  composed?: boolean;
}
declare class Event {
  constructor(type: string, init?: EventInit);
  static readonly NONE: 0;
  static readonly CAPTURING_PHASE: 1;
  static readonly AT_TARGET: 2;
  static readonly BUBBLING_PHASE: 3;
  readonly type: string;
  readonly target: EventTarget | null;
  readonly currentTarget: EventTarget | null;
  readonly eventPhase: number;
  readonly bubbles: boolean;
  readonly cancelable: boolean;
  readonly composed: boolean;
  readonly defaultPrevented: boolean;
  readonly isTrusted: boolean;
  readonly timeStamp: number;
  composedPath(): EventTarget[];
  preventDefault(): void;
  stopImmediatePropagation(): void;
  stopPropagation(): void;
}
declare class CustomEvent<T = any> extends Event {
  constructor(type: string, init?: EventInit & { detail?: T });
  readonly detail: T;
}
declare class MessageEvent<T = any> extends Event {
  constructor(
    type: string,
    init?: EventInit & { data?: T; origin?: string; lastEventId?: string; ports?: MessagePort[] },
  );
  readonly data: T;
  readonly origin: string;
  readonly lastEventId: string;
  readonly ports: readonly MessagePort[];
}
declare class ErrorEvent extends Event {
  constructor(
    type: string,
    init?: EventInit & {
      message?: string;
      filename?: string;
      lineno?: number;
      colno?: number;
      error?: unknown;
    },
  );
  readonly message: string;
  readonly filename: string;
  readonly lineno: number;
  readonly colno: number;
  readonly error: any;
}
declare class CloseEvent extends Event {
  constructor(type: string, init?: EventInit & { wasClean?: boolean; code?: number; reason?: string });
  readonly wasClean: boolean;
  readonly code: number;
  readonly reason: string;
}
declare class ProgressEvent<T extends EventTarget = EventTarget> extends Event {
  constructor(type: string, init?: EventInit & { lengthComputable?: boolean; loaded?: number; total?: number });
  readonly target: T | null;
  readonly lengthComputable: boolean;
  readonly loaded: number;
  readonly total: number;
}
declare class PromiseRejectionEvent extends Event {
  constructor(type: string, init: EventInit & { promise: Promise<unknown>; reason?: unknown });
  readonly promise: Promise<any>;
  readonly reason: any;
}

type EventListenerOrObject<E extends Event = Event> =
  | ((event: E) => void)
  | { handleEvent(event: E): void };
interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: AbortSignal;
}
declare class EventTarget {
  constructor();
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | { capture?: boolean },
  ): void;
  dispatchEvent(event: Event): boolean;
}

interface GlobalEvents {
  error: ErrorEvent;
  unhandledrejection: PromiseRejectionEvent;
  rejectionhandled: PromiseRejectionEvent;
}
declare var onerror: ((event: ErrorEvent) => void) | null;
declare var onunhandledrejection: ((event: PromiseRejectionEvent) => void) | null;
declare var onrejectionhandled: ((event: PromiseRejectionEvent) => void) | null;
declare function addEventListener<K extends keyof GlobalEvents>(
  type: K,
  listener: EventListenerOrObject<GlobalEvents[K]> | null,
  options?: boolean | ListenerOptions,
): void;
declare function addEventListener(
  type: string,
  listener: EventListenerOrObject<any> | null,
  options?: boolean | ListenerOptions,
): void;
declare function removeEventListener(
  type: string,
  listener: EventListenerOrObject<any> | null,
  options?: boolean | { capture?: boolean },
): void;
declare function dispatchEvent(event: Event): boolean;

declare class AbortController {
  constructor();
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
}
declare class AbortSignal extends EventTarget {
  private constructor();
  static abort(reason?: unknown): AbortSignal;
  static any(signals: Iterable<AbortSignal>): AbortSignal;
  static timeout(ms: number): AbortSignal;
  readonly aborted: boolean;
  readonly reason: any;
  onabort: ((event: Event) => void) | null;
  throwIfAborted(): void;
}

// ---- Messages within the isolate ----

interface MessageEvents {
  message: MessageEvent;
  messageerror: MessageEvent;
}
declare class MessagePort extends EventTarget {
  private constructor();
  onmessage: ((event: MessageEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[] | { transfer?: Transferable[] }): void;
  start(): void;
  close(): void;
  addEventListener<K extends keyof MessageEvents>(
    type: K,
    listener: EventListenerOrObject<MessageEvents[K]> | null,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
}
declare class MessageChannel {
  constructor();
  readonly port1: MessagePort;
  readonly port2: MessagePort;
}
/** Connects channels of the same isolate only. */
declare class BroadcastChannel extends EventTarget {
  constructor(name: string);
  readonly name: string;
  onmessage: ((event: MessageEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
  addEventListener<K extends keyof MessageEvents>(
    type: K,
    listener: EventListenerOrObject<MessageEvents[K]> | null,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
}

// ---- URLs ----

declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string | URL, base?: string | URL): boolean;
  static parse(url: string | URL, base?: string | URL): URL | null;
  static createObjectURL(blob: Blob): string;
  static revokeObjectURL(url: string): void;
  hash: string;
  host: string;
  hostname: string;
  href: string;
  readonly origin: string;
  password: string;
  pathname: string;
  port: string;
  protocol: string;
  search: string;
  readonly searchParams: URLSearchParams;
  username: string;
  toString(): string;
  toJSON(): string;
}
declare class URLSearchParams {
  constructor(init?: string | Iterable<readonly [string, string]> | { [name: string]: string } | URLSearchParams);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  toString(): string;
  forEach(callback: (value: string, name: string, parent: URLSearchParams) => void): void;
  entries(): IteratorObject<[string, string]>;
  keys(): IteratorObject<string>;
  values(): IteratorObject<string>;
  [Symbol.iterator](): IteratorObject<[string, string]>;
}
type UrlPart = "protocol" | "username" | "password" | "hostname" | "port" | "pathname" | "search" | "hash";
type URLPatternInput = string | ({ [P in UrlPart]?: string } & { baseURL?: string });
type URLPatternResult = { inputs: URLPatternInput[] } & {
  [P in UrlPart]: { input: string; groups: { [name: string]: string | undefined } };
};
declare class URLPattern implements Readonly<Record<UrlPart, string>> {
  constructor(input?: URLPatternInput, base?: string, options?: { ignoreCase?: boolean });
  constructor(input?: URLPatternInput, options?: { ignoreCase?: boolean });
  readonly protocol: string;
  readonly username: string;
  readonly password: string;
  readonly hostname: string;
  readonly port: string;
  readonly pathname: string;
  readonly search: string;
  readonly hash: string;
  readonly hasRegExpGroups: boolean;
  exec(input?: URLPatternInput, base?: string): URLPatternResult | null;
  test(input?: URLPatternInput, base?: string): boolean;
}

// ---- Text ----

declare class TextEncoder {
  constructor();
  readonly encoding: "utf-8";
  encode(input?: string): Uint8Array<ArrayBuffer>;
  encodeInto(input: string, destination: Uint8Array): { read: number; written: number };
}
interface TextDecoderOptions {
  fatal?: boolean;
  ignoreBOM?: boolean;
}
declare class TextDecoder {
  constructor(label?: string, options?: TextDecoderOptions);
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(input?: ArrayBufferView | ArrayBufferLike, options?: { stream?: boolean }): string;
}
declare class TextEncoderStream {
  constructor();
  readonly encoding: "utf-8";
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<string>;
}
declare class TextDecoderStream {
  constructor(label?: string, options?: TextDecoderOptions);
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  readonly readable: ReadableStream<string>;
  readonly writable: WritableStream<BufferSource>;
}

// ---- Streams ----

interface QueuingStrategy<T = any> {
  highWaterMark?: number;
  size?(chunk: T): number;
}
declare class ByteLengthQueuingStrategy implements QueuingStrategy<ArrayBufferView> {
  constructor(init: { highWaterMark: number });
  readonly highWaterMark: number;
  readonly size: (chunk: ArrayBufferView) => number;
}
declare class CountQueuingStrategy implements QueuingStrategy {
  constructor(init: { highWaterMark: number });
  readonly highWaterMark: number;
  readonly size: () => 1;
}
interface UnderlyingSource<R = any> {
  type?: undefined;
  start?(controller: ReadableStreamDefaultController<R>): unknown;
  pull?(controller: ReadableStreamDefaultController<R>): void | PromiseLike<void>;
  cancel?(reason: any): void | PromiseLike<void>;
}
interface UnderlyingByteSource {
  type: "bytes";
  autoAllocateChunkSize?: number;
  start?(controller: ReadableByteStreamController): unknown;
  pull?(controller: ReadableByteStreamController): void | PromiseLike<void>;
  cancel?(reason: any): void | PromiseLike<void>;
}
interface StreamPipeOptions {
  preventAbort?: boolean;
  preventCancel?: boolean;
  preventClose?: boolean;
  signal?: AbortSignal;
}
type ReadResult<T> = { done: false; value: T } | { done: true; value: T | undefined };
declare class ReadableStream<R = any> implements AsyncIterable<R> {
  constructor(source: UnderlyingByteSource, strategy?: { highWaterMark?: number });
  constructor(source?: UnderlyingSource<R>, strategy?: QueuingStrategy<R>);
  static from<R>(source: Iterable<R> | AsyncIterable<R>): ReadableStream<R>;
  readonly locked: boolean;
  cancel(reason?: unknown): Promise<void>;
  getReader(options: { mode: "byob" }): ReadableStreamBYOBReader;
  getReader(options?: { mode?: undefined }): ReadableStreamDefaultReader<R>;
  pipeThrough<T>(
    transform: { readable: ReadableStream<T>; writable: WritableStream<R> },
    options?: StreamPipeOptions,
  ): ReadableStream<T>;
  pipeTo(destination: WritableStream<R>, options?: StreamPipeOptions): Promise<void>;
  tee(): [ReadableStream<R>, ReadableStream<R>];
  values(options?: { preventCancel?: boolean }): AsyncIterableIterator<R>;
  [Symbol.asyncIterator](options?: { preventCancel?: boolean }): AsyncIterableIterator<R>;
}
declare class ReadableStreamDefaultReader<R = any> {
  constructor(stream: ReadableStream<R>);
  readonly closed: Promise<void>;
  cancel(reason?: unknown): Promise<void>;
  read(): Promise<ReadResult<R>>;
  releaseLock(): void;
}
declare class ReadableStreamBYOBReader {
  constructor(stream: ReadableStream<Uint8Array>);
  readonly closed: Promise<void>;
  cancel(reason?: unknown): Promise<void>;
  read<T extends ArrayBufferView>(view: T, options?: { min?: number }): Promise<ReadResult<T>>;
  releaseLock(): void;
}
declare class ReadableStreamBYOBRequest {
  private constructor();
  readonly view: ArrayBufferView | null;
  respond(bytesWritten: number): void;
  respondWithNewView(view: ArrayBufferView): void;
}
declare class ReadableStreamDefaultController<R = any> {
  private constructor();
  readonly desiredSize: number | null;
  close(): void;
  enqueue(chunk?: R): void;
  error(reason?: unknown): void;
}
declare class ReadableByteStreamController {
  private constructor();
  readonly byobRequest: ReadableStreamBYOBRequest | null;
  readonly desiredSize: number | null;
  close(): void;
  enqueue(chunk: ArrayBufferView): void;
  error(reason?: unknown): void;
}
interface UnderlyingSink<W = any> {
  start?(controller: WritableStreamDefaultController): unknown;
  write?(chunk: W, controller: WritableStreamDefaultController): void | PromiseLike<void>;
  close?(): void | PromiseLike<void>;
  abort?(reason: any): void | PromiseLike<void>;
}
declare class WritableStream<W = any> {
  constructor(sink?: UnderlyingSink<W>, strategy?: QueuingStrategy<W>);
  readonly locked: boolean;
  abort(reason?: unknown): Promise<void>;
  close(): Promise<void>;
  getWriter(): WritableStreamDefaultWriter<W>;
}
declare class WritableStreamDefaultWriter<W = any> {
  constructor(stream: WritableStream<W>);
  readonly closed: Promise<void>;
  readonly desiredSize: number | null;
  readonly ready: Promise<void>;
  abort(reason?: unknown): Promise<void>;
  close(): Promise<void>;
  releaseLock(): void;
  write(chunk?: W): Promise<void>;
}
declare class WritableStreamDefaultController {
  private constructor();
  readonly signal: AbortSignal;
  error(reason?: unknown): void;
}
interface Transformer<I = any, O = any> {
  start?(controller: TransformStreamDefaultController<O>): unknown;
  transform?(chunk: I, controller: TransformStreamDefaultController<O>): void | PromiseLike<void>;
  flush?(controller: TransformStreamDefaultController<O>): void | PromiseLike<void>;
  cancel?(reason: any): void | PromiseLike<void>;
}
declare class TransformStream<I = any, O = any> {
  constructor(transformer?: Transformer<I, O>, writable?: QueuingStrategy<I>, readable?: QueuingStrategy<O>);
  readonly readable: ReadableStream<O>;
  readonly writable: WritableStream<I>;
}
declare class TransformStreamDefaultController<O = any> {
  private constructor();
  readonly desiredSize: number | null;
  enqueue(chunk?: O): void;
  error(reason?: unknown): void;
  terminate(): void;
}
type CompressionFormat = "brotli" | "deflate" | "deflate-raw" | "gzip";
declare class CompressionStream {
  constructor(format: CompressionFormat);
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<BufferSource>;
}
declare class DecompressionStream {
  constructor(format: CompressionFormat);
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<BufferSource>;
}

// ---- Blobs and forms ----

type BlobPart = BufferSource | Blob | string;
interface BlobOptions {
  type?: string;
  endings?: "native" | "transparent";
}
declare class Blob {
  constructor(parts?: Iterable<BlobPart>, options?: BlobOptions);
  readonly size: number;
  readonly type: string;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  slice(start?: number, end?: number, type?: string): Blob;
  stream(): ReadableStream<Uint8Array<ArrayBuffer>>;
  text(): Promise<string>;
}
declare class File extends Blob {
  constructor(parts: Iterable<BlobPart>, name: string, options?: BlobOptions & { lastModified?: number });
  readonly lastModified: number;
  readonly name: string;
}
type FileReaderEvent = "abort" | "error" | "load" | "loadend" | "loadstart" | "progress";
type FileReaderEvents = { [E in FileReaderEvent]: ProgressEvent<FileReader> };
type FileReaderHandlers = {
  [E in FileReaderEvent as `on${E}`]: ((event: ProgressEvent<FileReader>) => void) | null;
};
declare class FileReader extends EventTarget {
  constructor();
  static readonly EMPTY: 0;
  static readonly LOADING: 1;
  static readonly DONE: 2;
  readonly error: DOMException | null;
  readonly readyState: 0 | 1 | 2;
  readonly result: string | ArrayBuffer | null;
  abort(): void;
  readAsArrayBuffer(blob: Blob): void;
  readAsBinaryString(blob: Blob): void;
  readAsDataURL(blob: Blob): void;
  readAsText(blob: Blob, encoding?: string): void;
  addEventListener<K extends keyof FileReaderEvents>(
    type: K,
    listener: EventListenerOrObject<FileReaderEvents[K]> | null,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
}
interface FileReader extends FileReaderHandlers {}
type FormDataEntryValue = File | string;
declare class FormData {
  constructor();
  append(name: string, value: string): void;
  append(name: string, value: Blob, filename?: string): void;
  delete(name: string): void;
  get(name: string): FormDataEntryValue | null;
  getAll(name: string): FormDataEntryValue[];
  has(name: string): boolean;
  set(name: string, value: string): void;
  set(name: string, value: Blob, filename?: string): void;
  forEach(callback: (value: FormDataEntryValue, name: string, parent: FormData) => void): void;
  entries(): IteratorObject<[string, FormDataEntryValue]>;
  keys(): IteratorObject<string>;
  values(): IteratorObject<FormDataEntryValue>;
  [Symbol.iterator](): IteratorObject<[string, FormDataEntryValue]>;
}

// ---- Fetch: each call is the request `fetch` to the host ----

type HeadersInit = Headers | Iterable<readonly [string, string]> | { [name: string]: string };
type BodyInit = ReadableStream | Blob | BufferSource | FormData | URLSearchParams | string;
declare class Headers {
  constructor(init?: HeadersInit);
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  set(name: string, value: string): void;
  forEach(callback: (value: string, name: string, parent: Headers) => void): void;
  entries(): IteratorObject<[string, string]>;
  keys(): IteratorObject<string>;
  values(): IteratorObject<string>;
  [Symbol.iterator](): IteratorObject<[string, string]>;
}
interface Body {
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>> | null;
  readonly bodyUsed: boolean;
  arrayBuffer(): Promise<ArrayBuffer>;
  blob(): Promise<Blob>;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  formData(): Promise<FormData>;
  json(): Promise<any>;
  text(): Promise<string>;
}
interface RequestInit {
  method?: string;
  headers?: HeadersInit;
  body?: BodyInit | null;
  /** Digests of the response's body, such as `sha256-…`. If none matches, `fetch` rejects. */
  integrity?: string;
  redirect?: "error" | "follow" | "manual";
  /** Aborts the request, and the response's body until it is read completely. */
  signal?: AbortSignal | null;
}
type RequestInfo = Request | string | URL;
declare class Request {
  constructor(input: RequestInfo, init?: RequestInit);
  readonly headers: Headers;
  readonly integrity: string;
  readonly method: string;
  readonly redirect: "error" | "follow" | "manual";
  readonly signal: AbortSignal;
  readonly url: string;
  clone(): Request;
}
interface Request extends Body {}
interface ResponseInit {
  headers?: HeadersInit;
  status?: number;
  statusText?: string;
}
declare class Response {
  constructor(body?: BodyInit | null, init?: ResponseInit);
  static error(): Response;
  static json(data: unknown, init?: ResponseInit): Response;
  static redirect(url: string | URL, status?: number): Response;
  readonly headers: Headers;
  readonly ok: boolean;
  readonly redirected: boolean;
  readonly status: number;
  readonly statusText: string;
  readonly type: "basic" | "cors" | "default" | "error" | "opaque" | "opaqueredirect";
  readonly url: string;
  clone(): Response;
}
interface Response extends Body {}
declare function fetch(input: RequestInfo, init?: RequestInit): Promise<Response>;

declare class Navigator {
  private constructor();
  /** The name of the platform. */
  readonly userAgent: string;
}
declare const navigator: Navigator;

// ---- Context of asynchronous work ----

/** A value that follows the work it was set for, through awaits, timers and promises. */
interface AsyncLocalStorage<T = any> {
  readonly name: string;
  run<R, A extends any[]>(store: T, fn: (...args: A) => R, ...args: A): R;
  /** Runs `fn` without a value. */
  exit<R, A extends any[]>(fn: (...args: A) => R, ...args: A): R;
  getStore(): T | undefined;
  /** Sets the value from here to the end of this piece of work, and for the work that it starts. */
  enterWith(store: T): void;
  disable(): void;
}
interface AsyncLocalStorageConstructor {
  new <T = any>(options?: { defaultValue?: T; name?: string }): AsyncLocalStorage<T>;
  readonly prototype: AsyncLocalStorage;
  /** Returns a function that runs `fn` in the current context. */
  bind<F extends (...args: any[]) => any>(fn: F): F;
  /** Returns a function that runs its argument in the current context. */
  snapshot(): <R, A extends any[]>(fn: (...args: A) => R, ...args: A) => R;
}
declare var AsyncLocalStorage: AsyncLocalStorageConstructor;

declare module "node:async_hooks" {
  export const AsyncLocalStorage: AsyncLocalStorageConstructor;
  export type AsyncLocalStorage<T = any> = globalThis.AsyncLocalStorage<T>;
  /** Remembers the context in which it was created. */
  export class AsyncResource {
    constructor(type: string, options?: unknown);
    static bind<F extends (...args: any[]) => any>(fn: F, type?: string, self?: unknown): F;
    readonly type: string;
    asyncId(): number;
    bind<F extends (...args: any[]) => any>(fn: F, self?: unknown): F;
    emitDestroy(): this;
    runInAsyncScope<R, A extends any[]>(fn: (...args: A) => R, self?: unknown, ...args: A): R;
    triggerAsyncId(): number;
  }
  const hooks: {
    AsyncLocalStorage: AsyncLocalStorageConstructor;
    AsyncResource: typeof AsyncResource;
  };
  export default hooks;
}

// ---- WebSocket: the host owns the sockets ----

/** `message` contains the reason, in addition to the standard's properties. */
interface WebSocketErrorEvent extends Event {
  readonly message: string;
}
interface WebSocketEvents {
  open: Event;
  message: MessageEvent;
  error: WebSocketErrorEvent;
  close: CloseEvent;
}
type WebSocketHandlers = {
  [E in keyof WebSocketEvents as `on${E}`]: ((event: WebSocketEvents[E]) => void) | null;
};
declare class WebSocket extends EventTarget {
  constructor(url: string | URL, protocols?: string | Iterable<string>);
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  binaryType: "arraybuffer" | "blob";
  readonly bufferedAmount: number;
  readonly extensions: string;
  readonly protocol: string;
  readonly readyState: 0 | 1 | 2 | 3;
  readonly url: string;
  close(code?: number, reason?: string): void;
  send(data: string | BufferSource | Blob): void;
  addEventListener<K extends keyof WebSocketEvents>(
    type: K,
    listener: EventListenerOrObject<WebSocketEvents[K]> | null,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrObject<any> | null,
    options?: boolean | ListenerOptions,
  ): void;
}
interface WebSocket extends WebSocketHandlers {}

// ---- Crypto ----

type AlgorithmIdentifier = string | { name: string };
type KeyFormat = "jwk" | "pkcs8" | "raw" | "spki";
type KeyUsage =
  | "decrypt"
  | "deriveBits"
  | "deriveKey"
  | "encrypt"
  | "sign"
  | "unwrapKey"
  | "verify"
  | "wrapKey";
/** An algorithm by name, or with its parameters as Web Cryptography lists them. */
type CryptoParams = string | { name: string; [parameter: string]: unknown };
interface JsonWebKey {
  kty?: string;
  alg?: string;
  crv?: string;
  d?: string;
  dp?: string;
  dq?: string;
  e?: string;
  ext?: boolean;
  k?: string;
  key_ops?: string[];
  n?: string;
  p?: string;
  q?: string;
  qi?: string;
  use?: string;
  x?: string;
  y?: string;
}
interface CryptoKeyPair {
  publicKey: CryptoKey;
  privateKey: CryptoKey;
}
declare class CryptoKey {
  private constructor();
  readonly algorithm: { name: string };
  readonly extractable: boolean;
  readonly type: "private" | "public" | "secret";
  readonly usages: KeyUsage[];
}
declare class SubtleCrypto {
  private constructor();
  decrypt(algorithm: CryptoParams, key: CryptoKey, data: BufferSource): Promise<ArrayBuffer>;
  deriveBits(algorithm: CryptoParams, key: CryptoKey, length?: number | null): Promise<ArrayBuffer>;
  deriveKey(
    algorithm: CryptoParams,
    key: CryptoKey,
    derived: CryptoParams,
    extractable: boolean,
    usages: Iterable<KeyUsage>,
  ): Promise<CryptoKey>;
  digest(algorithm: AlgorithmIdentifier, data: BufferSource): Promise<ArrayBuffer>;
  encrypt(algorithm: CryptoParams, key: CryptoKey, data: BufferSource): Promise<ArrayBuffer>;
  exportKey(format: "jwk", key: CryptoKey): Promise<JsonWebKey>;
  exportKey(format: Exclude<KeyFormat, "jwk">, key: CryptoKey): Promise<ArrayBuffer>;
  generateKey(
    algorithm: CryptoParams,
    extractable: boolean,
    usages: Iterable<KeyUsage>,
  ): Promise<CryptoKey | CryptoKeyPair>;
  importKey(
    format: "jwk",
    key: JsonWebKey,
    algorithm: CryptoParams,
    extractable: boolean,
    usages: Iterable<KeyUsage>,
  ): Promise<CryptoKey>;
  importKey(
    format: Exclude<KeyFormat, "jwk">,
    key: BufferSource,
    algorithm: CryptoParams,
    extractable: boolean,
    usages: Iterable<KeyUsage>,
  ): Promise<CryptoKey>;
  sign(algorithm: CryptoParams, key: CryptoKey, data: BufferSource): Promise<ArrayBuffer>;
  unwrapKey(
    format: KeyFormat,
    wrapped: BufferSource,
    key: CryptoKey,
    algorithm: CryptoParams,
    keyAlgorithm: CryptoParams,
    extractable: boolean,
    usages: Iterable<KeyUsage>,
  ): Promise<CryptoKey>;
  verify(algorithm: CryptoParams, key: CryptoKey, signature: BufferSource, data: BufferSource): Promise<boolean>;
  wrapKey(format: KeyFormat, key: CryptoKey, wrapping: CryptoKey, algorithm: CryptoParams): Promise<ArrayBuffer>;
}
declare class Crypto {
  private constructor();
  readonly subtle: SubtleCrypto;
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  randomUUID(): `${string}-${string}-${string}-${string}-${string}`;
}
declare var crypto: Crypto;

// ---- Performance: the host chooses the resolution of its clock ----

declare class PerformanceEntry {
  protected constructor();
  readonly duration: number;
  readonly entryType: string;
  readonly name: string;
  readonly startTime: number;
  toJSON(): unknown;
}
declare class PerformanceMark extends PerformanceEntry {
  constructor(name: string, options?: { detail?: unknown; startTime?: number });
  readonly detail: any;
}
declare class PerformanceMeasure extends PerformanceEntry {
  private constructor();
  readonly detail: any;
}
declare class PerformanceObserverEntryList {
  private constructor();
  getEntries(): PerformanceEntry[];
  getEntriesByName(name: string, type?: string): PerformanceEntry[];
  getEntriesByType(type: string): PerformanceEntry[];
}
declare class PerformanceObserver {
  constructor(callback: (entries: PerformanceObserverEntryList, observer: PerformanceObserver) => void);
  static readonly supportedEntryTypes: readonly string[];
  disconnect(): void;
  observe(options?: { buffered?: boolean; entryTypes?: string[]; type?: string }): void;
  takeRecords(): PerformanceEntry[];
}
declare class Performance extends EventTarget {
  private constructor();
  readonly timeOrigin: number;
  clearMarks(name?: string): void;
  clearMeasures(name?: string): void;
  getEntries(): PerformanceEntry[];
  getEntriesByName(name: string, type?: string): PerformanceEntry[];
  getEntriesByType(type: string): PerformanceEntry[];
  mark(name: string, options?: { detail?: unknown; startTime?: number }): PerformanceMark;
  measure(
    name: string,
    start?:
      | string
      | { detail?: unknown; duration?: number; end?: number | string; start?: number | string },
    end?: string,
  ): PerformanceMeasure;
  now(): number;
  toJSON(): unknown;
}
declare var performance: Performance;

// ---- WebAssembly ----

declare namespace WebAssembly {
  type ValueType = "anyfunc" | "externref" | "f32" | "f64" | "i32" | "i64" | "v128";
  type ExternKind = "function" | "global" | "memory" | "table" | "tag";
  type Exports = { [name: string]: any };
  type Imports = { [module: string]: { [name: string]: unknown } };
  class CompileError extends Error {}
  class LinkError extends Error {}
  class RuntimeError extends Error {}
  class Global<T = any> {
    constructor(type: { value: ValueType; mutable?: boolean }, value?: T);
    value: T;
    valueOf(): T;
  }
  class Memory {
    constructor(type: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class Module {
    constructor(bytes: BufferSource);
    static customSections(module: Module, name: string): ArrayBuffer[];
    static exports(module: Module): { name: string; kind: ExternKind }[];
    static imports(module: Module): { module: string; name: string; kind: ExternKind }[];
  }
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Exports;
  }
  class Table {
    constructor(type: { element: "anyfunc" | "externref"; initial: number; maximum?: number }, value?: unknown);
    readonly length: number;
    get(index: number): any;
    grow(by: number, value?: unknown): number;
    set(index: number, value?: unknown): void;
  }
  function compile(bytes: BufferSource): Promise<Module>;
  function instantiate(
    bytes: BufferSource,
    imports?: Imports,
  ): Promise<{ module: Module; instance: Instance }>;
  function instantiate(module: Module, imports?: Imports): Promise<Instance>;
  function validate(bytes: BufferSource): boolean;
}
