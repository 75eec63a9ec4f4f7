// HTTP clients, over `fetch`: the rules of `data_guard` decide what may be reached.
import "internal:globals";
import { Buffer } from "node:buffer";
import EventEmitter from "node:events";
import { Readable, Writable } from "node:stream";
import { coded, missing } from "internal:errors";

export class IncomingMessage extends Readable {
  constructor(response) {
    super();
    this.statusCode = response.status;
    this.statusMessage = response.statusText;
    this.httpVersion = "1.1";
    this.headers = {};
    this.rawHeaders = [];
    this.trailers = {};
    this.complete = false;
    for (const [name, value] of response.headers) {
      this.rawHeaders.push(name, value);
      if (name === "set-cookie") (this.headers[name] ??= []).push(value);
      else this.headers[name] = value;
    }
    this._reader = response.body?.getReader();
  }
  _read() {
    if (this._reader === undefined) {
      this.complete = true;
      this.push(null);
      return;
    }
    this._reader.read().then(({ done, value }) => {
      if (done) this.complete = true;
      this.push(done ? null : Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    }, (error) => this.destroy(error));
  }
  _destroy(error, done) {
    this._reader?.cancel().catch(() => {});
    done(error);
  }
  setTimeout() {
    return this;
  }
}

const BODILESS = ["GET", "HEAD", "TRACE", "CONNECT"];

export class ClientRequest extends Writable {
  constructor(input, options, callback) {
    super();
    if (typeof options === "function") [options, callback] = [undefined, options];
    const given = typeof input === "string" || input instanceof URL
      ? { url: new URL(input), ...options }
      : { ...input, ...options };
    this.method = String(given.method ?? "GET").toUpperCase();
    this._url = given.url ?? urlOf(given);
    this.host = this._url.hostname;
    this.path = `${this._url.pathname}${this._url.search}`;
    this.protocol = this._url.protocol;
    this.aborted = false;
    this._headers = new Map();
    this._parts = [];
    this._abort = new AbortController();
    for (const [name, value] of Object.entries(given.headers ?? {})) if (value !== undefined) this.setHeader(name, value);
    if (given.auth && !this.hasHeader("authorization")) {
      this.setHeader("authorization", `Basic ${Buffer.from(given.auth).toString("base64")}`);
    }
    if (callback !== undefined) this.once("response", callback);
    if (given.timeout) this.setTimeout(given.timeout);
    given.signal?.addEventListener("abort", () => this.destroy(given.signal.reason), { once: true });
  }

  setHeader(name, value) {
    this._headers.set(String(name).toLowerCase(), [name, value]);
    return this;
  }
  getHeader(name) {
    return this._headers.get(String(name).toLowerCase())?.[1];
  }
  getHeaders() {
    return Object.fromEntries([...this._headers].map(([name, [, value]]) => [name, value]));
  }
  getHeaderNames() {
    return [...this._headers.keys()];
  }
  hasHeader(name) {
    return this._headers.has(String(name).toLowerCase());
  }
  removeHeader(name) {
    this._headers.delete(String(name).toLowerCase());
  }
  flushHeaders() {}
  setNoDelay() {}
  setSocketKeepAlive() {}
  setTimeout(milliseconds, callback) {
    if (callback !== undefined) this.once("timeout", callback);
    clearTimeout(this._timer);
    if (milliseconds > 0) this._timer = setTimeout(() => this.emit("timeout"), milliseconds);
    return this;
  }
  abort() {
    this.aborted = true;
    this.destroy(coded(Error, "ECONNRESET", "the request was aborted"));
  }

  _write(chunk, encoding, done) {
    this._parts.push(typeof chunk === "string" ? Buffer.from(chunk, encoding) : Buffer.from(chunk));
    done();
  }

  _final(done) {
    done();
    const headers = new Headers();
    for (const [name, value] of this._headers.values()) {
      // `fetch` says these itself.
      if (/^(host|content-length|connection|transfer-encoding)$/i.test(name)) continue;
      for (const one of Array.isArray(value) ? value : [value]) headers.append(name, String(one));
    }
    const body = BODILESS.includes(this.method) || this._parts.length === 0 ? undefined : Buffer.concat(this._parts);
    const { signal } = this._abort;
    fetch(this._url, { method: this.method, headers, body, signal, redirect: "manual" }).then((response) => {
      clearTimeout(this._timer);
      if (this.destroyed && this.aborted) return;
      const message = new IncomingMessage(response);
      message.req = this;
      this.res = message;
      if (!this.emit("response", message)) message.resume();
    }, (error) => {
      clearTimeout(this._timer);
      if (!this.aborted) this.emit("error", Object.assign(error, { code: error.code ?? "ECONNREFUSED" }));
    });
  }

  _destroy(error, done) {
    clearTimeout(this._timer);
    if (error) this._abort.abort(error);
    done(error);
  }
}

function urlOf(options) {
  const protocol = options.protocol ?? options._protocol ?? "http:";
  const host = options.hostname ?? options.host ?? "localhost";
  const bracketed = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  const port = options.port ? `:${options.port}` : "";
  return new URL(`${protocol}//${bracketed.replace(/:\d+$/, "")}${port}${options.path ?? "/"}`);
}

export function request(input, options, callback) {
  return new ClientRequest(input, options, callback);
}

export function get(input, options, callback) {
  const made = request(input, options, callback);
  made.end();
  return made;
}

export class Agent extends EventEmitter {
  constructor(options = {}) {
    super();
    this.options = options;
    this.maxSockets = Infinity;
    this.sockets = {};
    this.requests = {};
  }
  destroy() {}
}
export const globalAgent = new Agent();
const why = "a site answers requests by export default { fetch(request, env, ctx) }";
export const createServer = missing("http.createServer", why);
export const Server = createServer;
export const ServerResponse = createServer;
export const METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
export const STATUS_CODES = {
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  410: "Gone",
  413: "Payload Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};
export const maxHeaderSize = 16384;
export default {
  Agent,
  ClientRequest,
  createServer,
  get,
  globalAgent,
  IncomingMessage,
  maxHeaderSize,
  METHODS,
  request,
  Server,
  ServerResponse,
  STATUS_CODES,
};
