// Keys that the host holds: `CryptoKey`s whose operations `crypto.subtle` asks the host for.
//
// Such a key is a `CryptoKey` of the engine's, without bytes of a key in it: what reads it sees its algorithm,
// type and usages. A table of this script says which ones they are, and the host knows what each may be used for, so a
// guest that reaches this table, or forges a clone, gets nothing that it was not granted.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayPrototypeIncludes,
  FunctionPrototypeCall,
  JSONParse,
  JSONStringify,
  Map,
  MapPrototypeGet,
  MapPrototypeSet,
  ObjectDefineProperty,
  PromisePrototypeThen,
  ReflectApply,
  SafeWeakMap,
  StringPrototypeToUpperCase,
  TypedArrayPrototypeGetBuffer,
  TypeError,
  Uint8Array,
  WeakMapPrototypeGet,
  WeakMapPrototypeSet,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { forgivingBase64Decode } = core.loadExtScript("ext:deno_web/00_infra.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const crypto = core.loadExtScript("ext:deno_crypto/00_crypto.js");
const { attempt, call } = core.loadExtScript("ext:stockade_realm/binding_calls.js");
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const { CryptoKey, SubtleCrypto } = crypto;
const subtlePrototype = SubtleCrypto.prototype;
const { fromCloneData, importSync } = CryptoKey;
const { exportKey, importKey } = subtlePrototype;

// The name of a clone's data, see `core.registerCloneableResource`.
const CLONE = "stockade.key";

// The errors of Web Cryptography that the host's answers name.
const DOM_ERRORS = {
  __proto__: null,
  InvalidAccessError: true,
  NotSupportedError: true,
  OperationError: true,
};

// What each `CryptoKey` of the host's stands for.
const held = new SafeWeakMap();
// The same by the names of bindings, for clones.
const bindings = new Map();

function heldBy(key) {
  return typeof key === "object" && key !== null ? WeakMapPrototypeGet(held, key) : undefined;
}

function make(grant) {
  const key = ReflectApply(fromCloneData, CryptoKey, [{
    __proto__: null,
    type: "CryptoKey",
    keyType: grant.type,
    extractable: false,
    usages: grant.usages,
    algorithm: grant.algorithm,
    keyData: new Uint8Array(0),
  }]);
  ObjectDefineProperty(key, core.hostObjectBrand, {
    __proto__: null,
    value: () => ({ type: CLONE, binding: grant.binding }),
    configurable: false,
    enumerable: false,
    writable: false,
  });
  WeakMapPrototypeSet(held, key, grant);
  return key;
}

// A clone is another object for the same grant. Only names that were granted have one.
core.registerCloneableResource(CLONE, (data) => {
  const grant = MapPrototypeGet(bindings, data.binding);
  if (grant === undefined) throw new DOMException("there is no such key", "DataCloneError");
  return make(grant);
});

// ---- What crypto.subtle does with them ----

function invalidAccess(message) {
  return new DOMException(message, "InvalidAccessError");
}

// The name of an algorithm is compared without regard to case, as in the standard's normalisation.
function checkAlgorithm(grant, algorithm) {
  const given = typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm;
  const name = webidl.converters.DOMString(given);
  if (StringPrototypeToUpperCase(name) !== StringPrototypeToUpperCase(grant.algorithm.name)) {
    throw invalidAccess(`the key is for ${grant.algorithm.name}, not for ${name}`);
  }
}

function bytesOf(value, what) {
  const data = typeof value === "object" && value !== null ? toData(value) : undefined;
  if (typeof data !== "object") throw new TypeError(`${what} must be an ArrayBuffer or a view of one`);
  return data;
}

// The members of an algorithm's parameters that the host needs, each read once.
function parametersOf(grant, algorithm) {
  const request = { __proto__: null };
  if (typeof algorithm !== "object" || algorithm === null) return request;
  switch (grant.algorithm.name) {
    case "ECDSA": {
      const { hash } = algorithm;
      const name = typeof hash === "object" && hash !== null ? hash.name : hash;
      request.hash = StringPrototypeToUpperCase(webidl.converters.DOMString(name));
      break;
    }
    case "RSA-PSS":
      request.saltLength = webidl.converters["unsigned long"](
        algorithm.saltLength,
        "Failed to read the parameters",
        "'saltLength'",
        { __proto__: null, enforceRange: true },
      );
      break;
    case "RSA-OAEP": {
      const { label } = algorithm;
      if (label !== undefined) request.label = bytesOf(label, "'label'");
      break;
    }
    case "AES-GCM": {
      const { iv, additionalData, tagLength } = algorithm;
      request.iv = bytesOf(iv, "'iv'");
      if (additionalData !== undefined) request.additionalData = bytesOf(additionalData, "'additionalData'");
      if (tagLength !== undefined) {
        request.tagLength = webidl.converters.octet(
          tagLength,
          "Failed to read the parameters",
          "'tagLength'",
          { __proto__: null, enforceRange: true },
        );
      }
      break;
    }
  }
  return request;
}

// Asks the host to use a key. `usage` is both the method and what the key must be granted for.
function use(grant, usage, algorithm, data, signature = undefined) {
  checkAlgorithm(grant, algorithm);
  if (!ArrayPrototypeIncludes(grant.usages, usage)) {
    throw invalidAccess(`the usages of the key do not include '${usage}'`);
  }
  const request = parametersOf(grant, algorithm);
  request.data = bytesOf(data, "the data");
  if (signature !== undefined) request.signature = bytesOf(signature, "the signature");
  return PromisePrototypeThen(call(grant.binding, usage, [request]), undefined, (error) => {
    const { name } = error;
    throw DOM_ERRORS[name] ? new DOMException(error.message, name) : error;
  });
}

function useForBuffer(grant, usage, algorithm, data) {
  return PromisePrototypeThen(use(grant, usage, algorithm, data), TypedArrayPrototypeGetBuffer);
}

function exportHeld(subtle, format, grant) {
  if (format === "spki" || format === "jwk") {
    if (grant.half !== undefined) return FunctionPrototypeCall(exportKey, subtle, format, grant.half);
  }
  throw invalidAccess(
    grant.half === undefined
      ? "the host holds the key: it cannot be exported"
      : "the host holds the key: its public half can be exported as 'spki' or 'jwk', and nothing else",
  );
}

async function wrap(subtle, format, key, grant, algorithm) {
  // Refuses a key that is not extractable.
  let data = await FunctionPrototypeCall(exportKey, subtle, format, key);
  if (format === "jwk") data = core.encode(JSONStringify(data));
  return useForBuffer(grant, "wrapKey", algorithm, data);
}

async function unwrap(subtle, format, wrapped, grant, algorithm, keyAlgorithm, extractable, usages) {
  let data = await useForBuffer(grant, "unwrapKey", algorithm, wrapped);
  if (format === "jwk") {
    try {
      data = JSONParse(core.decode(new Uint8Array(data)));
    } catch {
      throw new DOMException("what was unwrapped is no JWK", "DataError");
    }
  }
  return FunctionPrototypeCall(importKey, subtle, format, data, keyAlgorithm, extractable, usages);
}

// Puts a method in the place of one of SubtleCrypto's. It does what the original does, except for a key of the host's at
// this place among the arguments.
function intercept(name, place, run) {
  const original = subtlePrototype[name];
  const method = {
    [name](...args) {
      const grant = args.length > place ? heldBy(args[place]) : undefined;
      if (grant === undefined) return ReflectApply(original, this, args);
      return attempt(() => {
        webidl.assertBranded(this, subtlePrototype);
        webidl.requiredArguments(args.length, original.length, `Failed to execute '${name}' on 'SubtleCrypto'`);
        return run(this, grant, args);
      });
    },
  }[name];
  ObjectDefineProperty(method, "length", { __proto__: null, value: original.length, configurable: true });
  ObjectDefineProperty(subtlePrototype, name, {
    __proto__: null,
    value: method,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

intercept("sign", 1, (_subtle, grant, args) => useForBuffer(grant, "sign", args[0], args[2]));
intercept("verify", 1, (_subtle, grant, args) => use(grant, "verify", args[0], args[3], args[2]));
intercept("encrypt", 1, (_subtle, grant, args) => useForBuffer(grant, "encrypt", args[0], args[2]));
intercept("decrypt", 1, (_subtle, grant, args) => useForBuffer(grant, "decrypt", args[0], args[2]));
intercept("wrapKey", 2, (subtle, grant, args) => wrap(subtle, args[0], args[1], grant, args[3]));
intercept(
  "unwrapKey",
  2,
  (subtle, grant, args) => unwrap(subtle, args[0], args[1], grant, args[3], args[4], args[5], args[6]),
);
intercept("exportKey", 1, (subtle, grant, args) => exportHeld(subtle, args[0], grant));
intercept("getPublicKey", 0, (subtle, grant, args) => {
  if (grant.half === undefined) throw new DOMException("the key has no public half", "NotSupportedError");
  return FunctionPrototypeCall(importKey, subtle, "spki", grant.spki, grant.algorithm, true, args[1]);
});

// ---- The object of a binding ----

function create(binding, details) {
  // Makes `crypto.subtle`, which gives keys their brands.
  crypto.crypto;
  const { algorithm, type, usages, spki } = details;
  const grant = { __proto__: null, binding, type, usages, algorithm, spki: undefined, half: undefined };
  if (spki !== null) {
    grant.spki = forgivingBase64Decode(spki);
    grant.half = ReflectApply(importSync, CryptoKey, ["spki", grant.spki, algorithm, true, []]);
    // With the numbers that only the key itself has: `modulusLength`, `publicExponent`.
    grant.algorithm = grant.half.algorithm;
  }
  MapPrototypeSet(bindings, binding, grant);
  return make(grant);
}

return { create };
})();
