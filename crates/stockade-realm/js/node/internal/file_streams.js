// Streams of files.
import { Readable, Writable } from "node:stream";
import { Buffer } from "node:buffer";
import { encodingOf, flagsOf } from "internal:files";
import { byNumber, FileHandle, openFile, provide } from "internal:file_handle";

// Bytes that are read, or gathered for a write, at a time.
const PIECE = 64 * 1024;

// The file of a stream: opened by it, or given, by a number or a `FileHandle`.
function opened(stream, path, options, flags) {
  const given = options.fd;
  stream.path = path ?? undefined;
  stream.autoClose = options.autoClose ?? true;
  stream.flags = options.flags ?? flags;
  stream.fd = null;
  const opening = given instanceof FileHandle
    ? Promise.resolve(given)
    : typeof given === "number"
    ? Promise.resolve().then(() => byNumber(given, "open"))
    : openFile(path, stream.flags);
  return opening.then((handle) => {
    stream.fd = handle.fd;
    stream.handle = handle;
    if (given === undefined || given === null) {
      stream.emit("open", handle.fd);
      stream.emit("ready");
    }
  });
}

function closed(stream, error, done) {
  if (stream.handle === undefined || !stream.autoClose) return done(error);
  stream.handle.close().then(() => done(error), (failure) => done(error ?? failure));
}

// Both are functions and no classes: packages such as graceful-fs call them on objects of their own.
function inherit(Stream, Parent, methods) {
  Object.setPrototypeOf(Stream, Parent);
  Stream.prototype = Object.create(Parent.prototype, {
    constructor: { value: Stream, configurable: true, writable: true },
  });
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(Stream.prototype, name, { value, configurable: true, writable: true });
  }
}

function begin(stream, path, options, flags) {
  stream.start = options.start;
  stream.at = options.start;
  stream.pending = true;
  flagsOf(options.flags, flags);
  stream.opening = opened(stream, path, options, flags).then(() => {
    stream.pending = false;
  });
  stream.opening.catch((error) => stream.destroy(error));
}

const given = (options) => typeof options === "string" ? { encoding: options } : options ?? {};

export function ReadStream(path, options) {
  if (!(this instanceof ReadStream)) return new ReadStream(path, options);
  options = given(options);
  Readable.call(this, {
    autoDestroy: true,
    emitClose: options.emitClose ?? true,
    encoding: encodingOf(options) ?? undefined,
    highWaterMark: options.highWaterMark ?? PIECE,
    signal: options.signal,
  });
  this.end = options.end ?? Infinity;
  this.bytesRead = 0;
  begin(this, path, options, "r");
}
inherit(ReadStream, Readable, {
  _read(size) {
    this.opening.then(async () => {
      const left = this.start === undefined ? this.end + 1 - this.bytesRead : this.end + 1 - this.at;
      const wanted = Math.min(size, PIECE, left);
      if (wanted <= 0) return this.push(null);
      const buffer = Buffer.allocUnsafe(wanted);
      const { bytesRead } = await this.handle.read(buffer, 0, wanted, this.at ?? null);
      if (this.at !== undefined) this.at += bytesRead;
      this.bytesRead += bytesRead;
      this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
    }).catch((error) => this.destroy(error));
  },
  _destroy(error, done) {
    this.opening.then(() => closed(this, error, done), () => done(error));
  },
  close(callback) {
    if (callback !== undefined) this.once("close", callback);
    this.destroy();
  },
});

export function WriteStream(path, options) {
  if (!(this instanceof WriteStream)) return new WriteStream(path, options);
  options = given(options);
  Writable.call(this, {
    autoDestroy: true,
    decodeStrings: true,
    defaultEncoding: encodingOf(options) ?? undefined,
    emitClose: options.emitClose ?? true,
    highWaterMark: options.highWaterMark ?? PIECE,
    signal: options.signal,
  });
  this.bytesWritten = 0;
  begin(this, path, options, options.start === undefined ? "w" : "r+");
}

async function put(stream, bytes) {
  await stream.opening;
  const { bytesWritten } = await stream.handle.write(bytes, 0, bytes.length, stream.at ?? null);
  if (stream.at !== undefined) stream.at += bytesWritten;
  stream.bytesWritten += bytesWritten;
}

inherit(WriteStream, Writable, {
  _write(chunk, _encoding, done) {
    put(this, chunk).then(() => done(), done);
  },
  _writev(chunks, done) {
    put(this, Buffer.concat(chunks.map(({ chunk }) => chunk))).then(() => done(), done);
  },
  _destroy(error, done) {
    this.opening.then(() => closed(this, error, done), () => done(error));
  },
  close(callback) {
    if (callback !== undefined) this.once("close", callback);
    this.end();
  },
});

export const createReadStream = (path, options) => new ReadStream(path, options);
export const createWriteStream = (path, options) => new WriteStream(path, options);
provide({ createReadStream, createWriteStream });
