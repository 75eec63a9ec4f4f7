// RSA encryption with a public key, at once: WebCrypto gives promises, and drivers want bytes.
import { Buffer } from "node:buffer";
import hashes from "internal:vendor/hashes";
import { coded } from "internal:errors";

// One value of DER (X.690): its tag, its contents, and what follows.
function read(der) {
  const tag = der[0];
  let length = der[1];
  let start = 2;
  if (length > 0x80) {
    const bytes = length & 0x7f;
    length = 0;
    for (let i = 0; i < bytes; i++) length = length * 256 + der[start++];
  }
  if (der.length < start + length) throw coded(Error, "ERR_INVALID_ARG_VALUE", "the key is cut off");
  return { tag, value: der.subarray(start, start + length), rest: der.subarray(start + length) };
}

const toNumber = (bytes) => BigInt(`0x${Buffer.from(bytes).toString("hex") || "0"}`);

// Modulus and exponent of a public key in PEM: SubjectPublicKeyInfo or PKCS #1.
function keyOf(pem) {
  const text = String(pem?.key ?? pem);
  const found = /-----BEGIN (RSA )?PUBLIC KEY-----([^-]+)-----END/.exec(text);
  if (found === null) throw coded(Error, "ERR_INVALID_ARG_VALUE", "an RSA public key in PEM is needed");
  let body = read(Buffer.from(found[2].replace(/\s/g, ""), "base64")).value;
  if (found[1] === undefined) {
    // The algorithm, and a bit string whose first byte counts unused bits.
    body = read(read(read(body).rest).value.subarray(1)).value;
  }
  const modulus = read(body);
  return { modulus: toNumber(modulus.value), exponent: toNumber(read(modulus.rest).value) };
}

function power(base, exponent, modulus) {
  let result = 1n;
  base %= modulus;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = result * base % modulus;
    base = base * base % modulus;
  }
  return result;
}

// RFC 8017, B.2.1
function mask(seed, length, hash) {
  const parts = [];
  for (let counter = 0; parts.length * hash.outputLen < length; counter++) {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(counter);
    parts.push(Buffer.from(hash(Buffer.concat([seed, count]))));
  }
  return Buffer.concat(parts).subarray(0, length);
}

function xor(a, b) {
  return Buffer.from(a.map((byte, i) => byte ^ b[i]));
}

// RFC 8017, 7.1.1
function oaep(data, size, name) {
  const hash = hashes[name];
  const room = size - 2 * hash.outputLen - 2;
  if (data.length > room) throw coded(Error, "ERR_OSSL_RSA_DATA_TOO_LARGE_FOR_KEY_SIZE", "data too large for key size");
  const zeros = Buffer.alloc(room - data.length);
  const block = Buffer.concat([hash(new Uint8Array(0)), zeros, Buffer.from([1]), data]);
  const seed = Buffer.from(crypto.getRandomValues(new Uint8Array(hash.outputLen)));
  const masked = xor(block, mask(seed, block.length, hash));
  return Buffer.concat([Buffer.from([0]), xor(seed, mask(masked, seed.length, hash)), masked]);
}

// RFC 8017, 7.2.1
function pkcs1(data, size) {
  const room = size - 11;
  if (data.length > room) throw coded(Error, "ERR_OSSL_RSA_DATA_TOO_LARGE_FOR_KEY_SIZE", "data too large for key size");
  const filling = crypto.getRandomValues(new Uint8Array(size - data.length - 3)).map((byte) => byte || 1);
  return Buffer.concat([Buffer.from([0, 2]), filling, Buffer.from([0]), data]);
}

export const RSA_PKCS1_PADDING = 1;
export const RSA_PKCS1_OAEP_PADDING = 4;

export function publicEncrypt(key, data) {
  const { exponent, modulus } = keyOf(key);
  const size = Math.ceil(modulus.toString(16).length / 2);
  const padding = key?.padding ?? RSA_PKCS1_OAEP_PADDING;
  const hash = String(key?.oaepHash ?? "sha1").toLowerCase().replace("-", "");
  const block = padding === RSA_PKCS1_OAEP_PADDING ? oaep(data, size, hash) : pkcs1(data, size);
  const result = power(toNumber(block), exponent, modulus).toString(16).padStart(size * 2, "0");
  return Buffer.from(result, "hex");
}
