import util from "internal:vendor/util";
import { types } from "node:util/types";
import "internal:globals";

util.types = types;
util.TextDecoder = TextDecoder;
util.TextEncoder = TextEncoder;
util.inspect.custom ??= Symbol.for("nodejs.util.inspect.custom");
util.inspect.defaultOptions ??= {};
util.debug ??= util.debuglog;
util.toUSVString = (text) => String(text).toWellFormed();
util.stripVTControlCharacters = (text) => String(text).replace(/\u001B\[[0-9;]*[A-Za-z]/g, "");
util.aborted = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
util.getSystemErrorName = (code) => `E${code}`;
util.isDeepStrictEqual = (a, b) => equal(a, b, new Map());

function equal(a, b, seen) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  if (a instanceof Date) return a.getTime() === b.getTime();
  if (a instanceof RegExp) return String(a) === String(b);
  if (a instanceof Map) {
    return a.size === b.size && [...a].every(([key, value]) => b.has(key) && equal(value, b.get(key), seen));
  }
  if (a instanceof Set) return a.size === b.size && [...a].every((value) => b.has(value));
  if (a instanceof Error && (a.message !== b.message || a.name !== b.name)) return false;
  const keys = Reflect.ownKeys(a);
  const own = (key) => Object.hasOwn(b, key) && equal(a[key], b[key], seen);
  return keys.length === Reflect.ownKeys(b).length && keys.every(own);
}

export const {
  aborted,
  callbackify,
  debug,
  debuglog,
  deprecate,
  format,
  getSystemErrorName,
  inherits,
  inspect,
  isArray,
  isBoolean,
  isBuffer,
  isDate,
  isDeepStrictEqual,
  isError,
  isFunction,
  isNull,
  isNullOrUndefined,
  isNumber,
  isObject,
  isPrimitive,
  isRegExp,
  isString,
  isSymbol,
  isUndefined,
  log,
  promisify,
  stripVTControlCharacters,
  toUSVString,
} = util;
const Decoder = TextDecoder;
const Encoder = TextEncoder;
export { Decoder as TextDecoder, Encoder as TextEncoder, types };
export default util;
