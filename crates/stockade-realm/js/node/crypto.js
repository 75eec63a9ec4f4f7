// What drivers use of Node's cryptography, at once and not as promises. For everything else there is `crypto.subtle`.
import "internal:globals";
import { Buffer } from "node:buffer";
import hashes from "internal:vendor/hashes";
import { coded, missing } from "internal:errors";
import { publicEncrypt, RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING } from "internal:rsa";

const HASHES = ["md5", "ripemd160", "sha1", "sha224", "sha256", "sha384", "sha512"];

function hashOf(name) {
  const plain = String(name).toLowerCase().replace(/^rsa-/, "").replace("-", "");
  if (HASHES.includes(plain)) return hashes[plain];
  throw new Error(`Digest method not supported: ${name}`);
}

function bytesOf(data, encoding) {
  if (typeof data === "string") return new Uint8Array(Buffer.from(data, encoding));
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw coded(TypeError, "ERR_INVALID_ARG_TYPE", "the data must be a string or bytes");
}

function encoded(bytes, encoding) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return encoding === undefined || encoding === "buffer" ? buffer : buffer.toString(encoding);
}

class Digest {
  #state;
  #done = false;

  constructor(state) {
    this.#state = state;
  }

  update(data, encoding) {
    this.#check();
    this.#state.update(bytesOf(data, encoding));
    return this;
  }

  digest(encoding) {
    this.#check();
    this.#done = true;
    return encoded(this.#state.digest(), encoding);
  }

  copy() {
    this.#check();
    return new this.constructor(this.#state.clone());
  }

  #check() {
    if (this.#done) throw coded(Error, "ERR_CRYPTO_HASH_FINALIZED", "Digest already called");
  }
}
export class Hash extends Digest {}
export class Hmac extends Digest {}

export const createHash = (name) => new Hash(hashOf(name).create());
export const createHmac = (name, key) => new Hmac(hashes.hmac.create(hashOf(name), bytesOf(key)));
export const hash = (name, data, encoding = "hex") => createHash(name).update(data).digest(encoding);
export const getHashes = () => [...HASHES];
export const getCiphers = () => [];
export const getCurves = () => [];
export const getFips = () => 0;

export function pbkdf2Sync(password, salt, iterations, length, name) {
  const options = { c: iterations, dkLen: length };
  return encoded(hashes.pbkdf2(hashOf(name), bytesOf(password), bytesOf(salt), options));
}

// By the platform where it knows the hash, which is faster and leaves the guest's thread to others.
export function pbkdf2(password, salt, iterations, length, name, callback) {
  const known = { sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" };
  const hash = known[String(name).toLowerCase().replace("-", "")];
  const derive = async () => {
    if (hash === undefined) return pbkdf2Sync(password, salt, iterations, length, name);
    const { subtle } = globalThis.crypto;
    const key = await subtle.importKey("raw", bytesOf(password), "PBKDF2", false, ["deriveBits"]);
    const algorithm = { name: "PBKDF2", hash, salt: bytesOf(salt), iterations };
    return Buffer.from(await subtle.deriveBits(algorithm, key, length * 8));
  };
  derive().then((key) => callback(null, key), callback);
}

// The platform gives at most this number of random bytes at once.
const AT_ONCE = 65536;

export function randomFillSync(target, offset = 0, size = target.byteLength - offset) {
  const bytes = bytesOf(target).subarray(offset, offset + size);
  for (let at = 0; at < bytes.length; at += AT_ONCE) {
    globalThis.crypto.getRandomValues(bytes.subarray(at, at + AT_ONCE));
  }
  return target;
}

export function randomFill(target, ...args) {
  const callback = args.pop();
  try {
    randomFillSync(target, ...args);
  } catch (error) {
    queueMicrotask(() => callback(error));
    return;
  }
  queueMicrotask(() => callback(null, target));
}

export function randomBytes(size, callback) {
  const bytes = randomFillSync(Buffer.alloc(size));
  if (callback === undefined) return bytes;
  queueMicrotask(() => callback(null, bytes));
}
export const pseudoRandomBytes = randomBytes;

export function randomInt(min, max, callback) {
  if (max === undefined || typeof max === "function") [min, max, callback] = [0, min, max];
  const range = max - min;
  if (!(range > 0 && range < 2 ** 48)) throw coded(RangeError, "ERR_OUT_OF_RANGE", "the range must be from 1 to 2 ** 48");
  const limit = 2 ** 48 - 2 ** 48 % range;
  let value;
  do value = randomBytes(6).readUIntBE(0, 6); while (value >= limit);
  if (callback === undefined) return min + value % range;
  queueMicrotask(() => callback(null, min + value % range));
}

export const randomUUID = () => globalThis.crypto.randomUUID();

export function timingSafeEqual(a, b) {
  const [left, right] = [bytesOf(a), bytesOf(b)];
  if (left.length !== right.length) {
    throw coded(RangeError, "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH", "Input buffers must have the same byte length");
  }
  let difference = 0;
  for (let i = 0; i < left.length; i++) difference |= left[i] ^ right[i];
  return difference === 0;
}

export const constants = { RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING };
export const webcrypto = globalThis.crypto;
export const { subtle } = webcrypto;
export const getRandomValues = (view) => webcrypto.getRandomValues(view);
const why = "use crypto.subtle";
export const createCipheriv = missing("createCipheriv", why);
export const createDecipheriv = missing("createDecipheriv", why);
export const createPrivateKey = missing("createPrivateKey", why);
export const createPublicKey = missing("createPublicKey", why);
export const createSecretKey = missing("createSecretKey", why);
export const createSign = missing("createSign", why);
export const createVerify = missing("createVerify", why);
export const privateDecrypt = missing("privateDecrypt", why);
export const scrypt = missing("scrypt", why);
export const scryptSync = missing("scryptSync", why);
export const sign = missing("sign", why);
export const verify = missing("verify", why);
export class X509Certificate {
  constructor() {
    missing("X509Certificate", "certificates are checked by the host")();
  }
}
export { publicEncrypt };
export default {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  createSign,
  createVerify,
  getCiphers,
  getCurves,
  getFips,
  getHashes,
  getRandomValues,
  hash,
  Hash,
  Hmac,
  pbkdf2,
  pbkdf2Sync,
  privateDecrypt,
  pseudoRandomBytes,
  publicEncrypt,
  randomBytes,
  randomFill,
  randomFillSync,
  randomInt,
  randomUUID,
  scrypt,
  scryptSync,
  sign,
  subtle,
  timingSafeEqual,
  verify,
  webcrypto,
  X509Certificate,
};
