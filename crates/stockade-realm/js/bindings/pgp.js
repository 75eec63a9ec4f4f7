// OpenPGP with keys that the host holds.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypePush,
  Date,
  ObjectPrototypeIsPrototypeOf,
  PromisePrototypeThen,
  SafeArrayIterator,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { ReadableStreamPrototype } = core.loadExtScript("ext:deno_web/06_streams.js");
const { attempt, call, checkText, typeOf, valueOf } = core.loadExtScript(
  "ext:stockade_realm/binding_calls.js",
);
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const ours = { __proto__: null };

function bytesOf(value, what) {
  if (typeof value === "string") return core.encode(checkText(value, what));
  if (!ArrayBufferIsView(value) && !core.isArrayBuffer(value)) {
    throw new TypeError(`${what} must be text or bytes, not ${typeof value}`);
  }
  return toData(value);
}

function dataOf(value) {
  return ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, value) ? value : bytesOf(value, "the data");
}

// One key or a list of them.
function keysOf(value) {
  const keys = [];
  if (value === undefined) return keys;
  const list = ArrayIsArray(value) ? value : [value];
  for (const key of new SafeArrayIterator(list)) ArrayPrototypePush(keys, bytesOf(key, "a key"));
  return keys;
}

function checked(result, type) {
  let valid = false;
  const signatures = [];
  for (const one of new SafeArrayIterator(result.signatures)) {
    valid ||= one.valid;
    ArrayPrototypePush(signatures, {
      valid: one.valid,
      fingerprint: one.fingerprint,
      created: one.created === null ? null : new Date(one.created * 1000),
    });
  }
  const data = result.data === null ? undefined : valueOf(result.data, type ?? "bytes");
  return { data, valid, signatures };
}

function formOf(options) {
  if (options?.detached) {
    if (options.cleartext) throw new TypeError("a signature is either detached or cleartext");
    return "detached";
  }
  return options?.cleartext ? "cleartext" : "inline";
}

class Pgp {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, request) => call(binding, method, [request]);
  }

  publicKey() {
    return attempt(() => this.#call("publicKey", { __proto__: null }));
  }

  sign(data, options = undefined) {
    return attempt(() =>
      this.#call("sign", {
        __proto__: null,
        data: dataOf(data),
        form: formOf(options),
        armor: (options?.armor ?? true) === true,
      })
    );
  }

  encrypt(data, options = undefined) {
    return attempt(() =>
      this.#call("encrypt", {
        __proto__: null,
        data: dataOf(data),
        keys: keysOf(options?.recipients),
        sign: (options?.sign ?? false) === true,
        armor: (options?.armor ?? true) === true,
      })
    );
  }

  decrypt(message, options = undefined) {
    return attempt(() => {
      const type = typeOf(options);
      const request = { __proto__: null, data: dataOf(message), keys: keysOf(options?.keys) };
      return PromisePrototypeThen(this.#call("decrypt", request), (result) => checked(result, type));
    });
  }

  verify(message, options = undefined) {
    return attempt(() => {
      const type = typeOf(options);
      const request = { __proto__: null, data: dataOf(message), keys: keysOf(options?.keys) };
      const signature = options?.signature;
      if (signature !== undefined) request.signature = bytesOf(signature, "a signature");
      return PromisePrototypeThen(this.#call("verify", request), (result) => checked(result, type));
    });
  }
}
webidl.configureInterface(Pgp);

function create(binding) {
  return new Pgp(ours, binding);
}

return { create };
})();
