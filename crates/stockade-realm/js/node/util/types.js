import util from "internal:vendor/util";

export const types = util.types;
types.isBoxedPrimitive ??= (value) =>
  [Number, String, Boolean, Symbol, BigInt].some((Class) => value instanceof Class);
types.isKeyObject ??= () => false;
types.isCryptoKey ??= (value) => value instanceof CryptoKey;
export const {
  isAnyArrayBuffer,
  isArgumentsObject,
  isArrayBuffer,
  isArrayBufferView,
  isAsyncFunction,
  isBigInt64Array,
  isBigUint64Array,
  isBoxedPrimitive,
  isCryptoKey,
  isDataView,
  isDate,
  isGeneratorFunction,
  isGeneratorObject,
  isKeyObject,
  isMap,
  isMapIterator,
  isNativeError,
  isPromise,
  isProxy,
  isRegExp,
  isSet,
  isSetIterator,
  isSharedArrayBuffer,
  isTypedArray,
  isUint8Array,
  isWeakMap,
  isWeakSet,
} = types;
export default types;
