import buffer from "internal:vendor/buffer";
import { coded } from "internal:errors";

const { Buffer, SlowBuffer } = buffer;
const prototype = Buffer.prototype;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

// The platform's decoder is faster than the library's for all but a few bytes.
const SHORT = 24;

const textOf = prototype.toString;
prototype.toString = function toString(encoding, start, end) {
  const kind = encoding === undefined ? "utf8" : String(encoding).toLowerCase();
  if (kind === "base64url") {
    return textOf.call(this, "base64", start, end).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  }
  if (kind === "utf8" || kind === "utf-8") {
    const from = Math.max(0, start === undefined ? 0 : start | 0);
    const to = Math.min(this.length, end === undefined ? this.length : end | 0);
    if (to - from > SHORT) return decoder.decode(this.subarray(from, to));
  }
  return textOf.call(this, encoding, start, end);
};
prototype.toLocaleString = prototype.toString;
for (const [name, encoding] of [
  ["asciiSlice", "ascii"],
  ["base64Slice", "base64"],
  ["base64urlSlice", "base64url"],
  ["hexSlice", "hex"],
  ["latin1Slice", "latin1"],
  ["ucs2Slice", "ucs2"],
  ["utf8Slice", "utf8"],
]) {
  prototype[name] = function (start, end) {
    return this.toString(encoding, start, end);
  };
}
for (const [name, encoding] of [
  ["asciiWrite", "ascii"],
  ["base64Write", "base64"],
  ["hexWrite", "hex"],
  ["latin1Write", "latin1"],
  ["ucs2Write", "ucs2"],
  ["utf8Write", "utf8"],
]) {
  prototype[name] = function (text, offset, length) {
    return this.write(text, offset ?? 0, length ?? this.length - (offset ?? 0), encoding);
  };
}

const from = Buffer.from;
Buffer.from = function (value, encoding, length) {
  if (typeof value === "string") {
    const kind = encoding === undefined ? "utf8" : String(encoding).toLowerCase();
    if ((kind === "utf8" || kind === "utf-8") && value.length > SHORT) {
      const bytes = encoder.encode(value);
      return from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    if (kind === "base64url") return from(value, "base64");
  }
  return from(value, encoding, length);
};
const byteLength = Buffer.byteLength;
Buffer.byteLength = function (value, encoding) {
  return byteLength(value, String(encoding).toLowerCase() === "base64url" ? "base64" : encoding);
};
const isEncoding = Buffer.isEncoding;
Buffer.isEncoding = (encoding) => String(encoding).toLowerCase() === "base64url" || isEncoding(encoding);
Buffer.poolSize = 8192;
Buffer.copyBytesFrom = (view, offset = 0, length = view.length - offset) => {
  const part = view.subarray(offset, offset + length);
  return Buffer.from(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
};

export const kMaxLength = buffer.kMaxLength;
export const kStringMaxLength = 0x1fffffe8;
export const constants = { MAX_LENGTH: kMaxLength, MAX_STRING_LENGTH: kStringMaxLength };
export const INSPECT_MAX_BYTES = 50;
export const Blob = globalThis.Blob;
export const File = globalThis.File;
export const atob = globalThis.atob;
export const btoa = globalThis.btoa;

function bytesOf(input) {
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  throw coded(TypeError, "ERR_INVALID_ARG_TYPE", "the input must be bytes");
}

export function isUtf8(input) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(input));
    return true;
  } catch (error) {
    if (error.code === "ERR_INVALID_ARG_TYPE") throw error;
    return false;
  }
}

export function isAscii(input) {
  return bytesOf(input).every((byte) => byte < 128);
}

export function transcode(source, fromEncoding, toEncoding) {
  return Buffer.from(Buffer.from(source).toString(fromEncoding), toEncoding);
}

export { Buffer, SlowBuffer };
export default {
  atob,
  Blob,
  btoa,
  Buffer,
  constants,
  File,
  INSPECT_MAX_BYTES,
  isAscii,
  isUtf8,
  kMaxLength,
  kStringMaxLength,
  SlowBuffer,
  transcode,
};
