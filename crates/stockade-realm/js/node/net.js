// TCP clients, over `connect()` of "cloudflare:sockets". The rules of `sockets` decide what may be reached.
import { Duplex } from "node:stream";
import EventEmitter from "node:events";
import { coded, missing } from "internal:errors";

const open = globalThis[Symbol.for("cloudflare:sockets")]?.connect ?? (() => {
  throw coded(Error, "EACCES", "connect EACCES: this guest has no sockets");
});

const V4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;

export const isIPv4 = (text) => V4.test(text);
export function isIPv6(text) {
  const [address] = String(text).split("%");
  if (!/^[0-9a-f:.]+$/i.test(address) || !address.includes(":")) return false;
  try {
    return new URL(`http://[${address}]/`).hostname.startsWith("[");
  } catch {
    return false;
  }
}
export const isIP = (text) => isIPv4(text) ? 4 : isIPv6(text) ? 6 : 0;

// Node's code for why a connection failed.
function codeOf(error, opening) {
  const text = String(error?.message);
  if (error?.name === "TimeoutError") return "ETIMEDOUT";
  if (/did not resolve/.test(text)) return "ENOTFOUND";
  if (/connection refused/.test(text)) return "ECONNREFUSED";
  if (/ refused: /.test(text)) return "EACCES";
  if (/TLS failed/.test(text)) return "ERR_TLS_HANDSHAKE";
  return opening ? "ECONNREFUSED" : "ECONNRESET";
}

export function asNodeError(error, opening) {
  const given = error instanceof Error ? error : new Error(String(error));
  given.code ??= codeOf(given, opening);
  if (opening) given.syscall ??= "connect";
  return given;
}

// What `connect(port, host)`, `connect(options)` and `connect(path)` are given.
function readArguments(args) {
  if (Array.isArray(args[0])) args = args[0];
  args = [...args];
  const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
  const [first, host] = args;
  if (typeof first === "object" && first !== null) return [first, callback];
  if (typeof first === "string" && !/^\d+$/.test(first)) return [{ path: first }, callback];
  return [{ port: first, host }, callback];
}

export class Socket extends Duplex {
  constructor(options = {}) {
    if (typeof options === "number") options = {};
    super({
      allowHalfOpen: Boolean(options.allowHalfOpen),
      autoDestroy: true,
      emitClose: true,
      highWaterMark: options.highWaterMark,
    });
    this.connecting = false;
    this.bytesRead = 0;
    this.bytesWritten = 0;
    this.timeout = 0;
    this._options = options;
    // The socket of the platform, its streams, and what waits for them.
    this._connection = null;
    this._reader = null;
    this._writer = null;
    this._waiting = [];
    this._resume = null;
    this._timer = undefined;
  }

  connect(...args) {
    const [options, callback] = readArguments(args);
    if (callback !== undefined) this.once("connect", callback);
    if (options.path !== undefined && options.port === undefined) {
      this.destroy(coded(Error, "EACCES", "connect EACCES: guests reach no sockets of the file system"));
      return this;
    }
    const host = options.host ?? "localhost";
    const port = Number(options.port);
    this._host = host;
    this.remotePort = port;
    this.connecting = true;
    if (options.signal !== undefined) this._abortWith(options.signal);
    if (options.timeout !== undefined) this.setTimeout(options.timeout);
    try {
      this._attach(open({ hostname: host, port }, this._platformOptions(options)), "connect");
    } catch (error) {
      queueMicrotask(() => this.destroy(asNodeError(error, true)));
    }
    return this;
  }

  // TLS may start later: which protocol is spoken is not known here.
  _platformOptions() {
    return { secureTransport: "starttls", allowHalfOpen: true };
  }

  _abortWith(signal) {
    const stop = () => this.destroy(signal.reason);
    if (signal.aborted) queueMicrotask(stop);
    else signal.addEventListener("abort", stop, { once: true });
  }

  _attach(connection, event) {
    this._connection = connection;
    connection.closed.catch(() => {});
    connection.opened.then(() => {
      if (this._connection !== connection) return;
      this._reader = connection.readable.getReader();
      this._writer = connection.writable.getWriter();
      this._writer.closed.catch(() => {});
      this.connecting = false;
      this.remoteAddress = isIP(this._host) ? this._host : "0.0.0.0";
      this.remoteFamily = isIPv6(this._host) ? "IPv6" : "IPv4";
      this._touch();
      this.emit(event);
      this.emit("ready");
      const waiting = this._waiting;
      this._waiting = [];
      for (const work of waiting) work();
      this._pump(this._reader);
    }, (error) => {
      if (this._connection === connection) this.destroy(asNodeError(error, true));
    });
  }

  // Gives the connection up to another socket, which goes on with it.
  _release() {
    const connection = this._connection;
    this._connection = this._reader = this._writer = null;
    clearTimeout(this._timer);
    this._resume?.();
    return connection;
  }

  async _pump(reader) {
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (this._reader !== reader) return;
        if (done) {
          this.push(null);
          // Nothing would read the end of what is not read.
          if (this.readableFlowing !== false) this.read(0);
          return;
        }
        this.bytesRead += value.length;
        this._touch();
        if (!this.push(Buffer.from(value.buffer, value.byteOffset, value.byteLength))) {
          await new Promise((resolve) => this._resume = resolve);
        }
      }
    } catch (error) {
      if (this._reader === reader) this.destroy(asNodeError(error, false));
    }
  }

  _read() {
    const resume = this._resume;
    this._resume = null;
    resume?.();
  }

  _write(chunk, encoding, done) {
    this._send(typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk, done);
  }

  _writev(chunks, done) {
    const parts = chunks.map(({ chunk, encoding }) =>
      typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk
    );
    this._send(parts.length === 1 ? parts[0] : Buffer.concat(parts), done);
  }

  _send(bytes, done) {
    const work = () => {
      this.bytesWritten += bytes.length;
      this._touch();
      this._writer.write(bytes).then(() => done(), (error) => done(asNodeError(error, false)));
    };
    if (this._writer === null) this._waiting.push(work);
    else work();
  }

  _final(done) {
    const work = () => void this._writer.close().then(() => done(), () => done());
    if (this._writer !== null) work();
    else if (this.connecting) this._waiting.push(work);
    else done();
  }

  _destroy(error, done) {
    clearTimeout(this._timer);
    this.connecting = false;
    const connection = this._release();
    this._waiting = [];
    connection?.close().catch(() => {});
    done(error);
  }

  setTimeout(milliseconds, callback) {
    this.timeout = milliseconds;
    if (callback !== undefined) {
      if (milliseconds === 0) this.removeListener("timeout", callback);
      else this.once("timeout", callback);
    }
    this._touch();
    return this;
  }

  _touch() {
    clearTimeout(this._timer);
    if (this.timeout > 0 && !this.destroyed) this._timer = setTimeout(() => this.emit("timeout"), this.timeout);
  }

  get pending() {
    return this._writer === null;
  }

  get readyState() {
    if (this.connecting) return "opening";
    if (this.destroyed || this._connection === null) return "closed";
    if (!this.writable) return "readOnly";
    return this.readable ? "open" : "writeOnly";
  }

  get bufferSize() {
    return this.writableLength;
  }

  address() {
    return {};
  }
  destroySoon() {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }
  resetAndDestroy() {
    return this.destroy();
  }
  setNoDelay() {
    return this;
  }
  setKeepAlive() {
    return this;
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
}

export function connect(...args) {
  const [options, callback] = readArguments(args);
  return new Socket(options).connect(options, callback ?? (() => {}));
}
export const createConnection = connect;
export const Stream = Socket;

const why = "sites are listened for by the configuration: export default { connect(socket, env, ctx) }";
export const createServer = missing("net.createServer", why);
export class Server extends EventEmitter {
  listen() {
    return createServer();
  }
}

let family = true;
export const getDefaultAutoSelectFamily = () => family;
export const setDefaultAutoSelectFamily = (value) => void (family = Boolean(value));
export const getDefaultAutoSelectFamilyAttemptTimeout = () => 250;
export const setDefaultAutoSelectFamilyAttemptTimeout = () => {};

export default {
  connect,
  createConnection,
  createServer,
  getDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  isIP,
  isIPv4,
  isIPv6,
  Server,
  setDefaultAutoSelectFamily,
  setDefaultAutoSelectFamilyAttemptTimeout,
  Socket,
  Stream,
};
