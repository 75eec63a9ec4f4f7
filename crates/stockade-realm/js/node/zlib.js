// Compression, by the platform's streams where it may take its time.
import "internal:globals";
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import inflate from "internal:vendor/inflate";
import { coded, missing } from "internal:errors";

const bytesOf = (data) => {
  if (typeof data === "string") return new Uint8Array(Buffer.from(data));
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Uint8Array(data);
};

// Of each: the platform's class, its format, and the function that does it at once.
const KINDS = {
  deflate: [CompressionStream, "deflate", inflate.zlibSync],
  inflate: [DecompressionStream, "deflate", inflate.unzlibSync],
  deflateRaw: [CompressionStream, "deflate-raw", inflate.deflateSync],
  inflateRaw: [DecompressionStream, "deflate-raw", inflate.inflateSync],
  gzip: [CompressionStream, "gzip", inflate.gzipSync],
  gunzip: [DecompressionStream, "gzip", inflate.gunzipSync],
};

const broken = (error) => coded(Error, "Z_DATA_ERROR", String(error?.message ?? error));

function atOnce(kind) {
  const work = KINDS[kind][2];
  return (data, options) => {
    try {
      const level = options?.level >= 0 ? options.level : 6;
      const done = work(bytesOf(data), { level });
      return Buffer.from(done.buffer, done.byteOffset, done.byteLength);
    } catch (error) {
      throw broken(error);
    }
  };
}

function later(kind) {
  const [Class, format] = KINDS[kind];
  return (data, options, callback = options) => {
    const stream = new Blob([bytesOf(data)]).stream().pipeThrough(new Class(format));
    new Response(stream).arrayBuffer().then(
      (done) => callback(null, Buffer.from(done)),
      (error) => callback(broken(error)),
    );
  };
}

class Codec extends Duplex {
  constructor([Class, format], options) {
    super(options);
    const { readable, writable } = new Class(format);
    this.bytesWritten = 0;
    this.reader = readable.getReader();
    this.writer = writable.getWriter();
    this.writer.closed.catch(() => {});
  }
  _read() {
    this.reader.read().then(
      ({ done, value }) => this.push(done ? null : Buffer.from(value.buffer, value.byteOffset, value.byteLength)),
      (error) => this.destroy(broken(error)),
    );
  }
  _write(chunk, encoding, done) {
    this.bytesWritten += chunk.length;
    this.writer.write(bytesOf(chunk)).then(() => done(), (error) => done(broken(error)));
  }
  _final(done) {
    this.writer.close().then(() => done(), (error) => done(broken(error)));
  }
  _destroy(error, done) {
    this.reader.cancel().catch(() => {});
    done(error);
  }
  close(callback) {
    if (callback) this.once("close", callback);
    this.destroy();
  }
  flush(kind, callback = kind) {
    if (typeof callback === "function") queueMicrotask(callback);
  }
}

// A class that is called with and without `new`.
const maker = (kind) =>
  function (options) {
    return new Codec(KINDS[kind], options);
  };

export const deflateSync = atOnce("deflate");
export const inflateSync = atOnce("inflate");
export const deflateRawSync = atOnce("deflateRaw");
export const inflateRawSync = atOnce("inflateRaw");
export const gzipSync = atOnce("gzip");
export const gunzipSync = atOnce("gunzip");
export const unzipSync = (data, options) =>
  bytesOf(data)[0] === 0x1f ? gunzipSync(data, options) : inflateSync(data, options);
export const deflate = later("deflate");
export const deflateRaw = later("deflateRaw");
export const inflateRaw = later("inflateRaw");
export const gzip = later("gzip");
export const gunzip = later("gunzip");
const inflateLater = later("inflate");
export { inflateLater as inflate };
export const unzip = (data, options, callback = options) =>
  (bytesOf(data)[0] === 0x1f ? gunzip : inflateLater)(data, options, callback);
export const createDeflate = maker("deflate");
export const createInflate = maker("inflate");
export const createDeflateRaw = maker("deflateRaw");
export const createInflateRaw = maker("inflateRaw");
export const createGzip = maker("gzip");
export const createGunzip = maker("gunzip");
export const createUnzip = createGunzip;
export const [Deflate, Inflate, Gzip, Gunzip] = [createDeflate, createInflate, createGzip, createGunzip];

const why = "there is deflate and gzip";
export const brotliCompress = missing("brotliCompress", why);
export const brotliDecompress = missing("brotliDecompress", why);
export const createBrotliCompress = missing("createBrotliCompress", why);
export const createBrotliDecompress = missing("createBrotliDecompress", why);
export const constants = {
  Z_NO_FLUSH: 0,
  Z_PARTIAL_FLUSH: 1,
  Z_SYNC_FLUSH: 2,
  Z_FULL_FLUSH: 3,
  Z_FINISH: 4,
  Z_OK: 0,
  Z_STREAM_END: 1,
  Z_DATA_ERROR: -3,
  Z_BUF_ERROR: -5,
  Z_NO_COMPRESSION: 0,
  Z_BEST_SPEED: 1,
  Z_BEST_COMPRESSION: 9,
  Z_DEFAULT_COMPRESSION: -1,
};
export default {
  brotliCompress,
  brotliDecompress,
  constants,
  ...constants,
  createBrotliCompress,
  createBrotliDecompress,
  createDeflate,
  createDeflateRaw,
  createGunzip,
  createGzip,
  createInflate,
  createInflateRaw,
  createUnzip,
  deflate,
  Deflate,
  deflateRaw,
  deflateRawSync,
  deflateSync,
  gunzip,
  Gunzip,
  gunzipSync,
  gzip,
  Gzip,
  gzipSync,
  Inflate,
  inflate: inflateLater,
  inflateRaw,
  inflateRawSync,
  inflateSync,
  unzip,
  unzipSync,
};
