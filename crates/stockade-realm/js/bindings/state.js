// Shared state: the keyspace of a site.
//
// A value travels as bytes with the letter of its kind: "t" text, "j" JSON, "b" bytes.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypePush,
  JSONStringify,
  MapPrototypeSet,
  Map,
  NumberIsFinite,
  NumberIsInteger,
  ObjectGetPrototypeOf,
  ObjectKeys,
  ObjectPrototype,
  PromisePrototypeThen,
  RangeError,
  String,
  StringPrototypeSlice,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText, lines, typeOf, valueOf } = core.loadExtScript(
  "ext:stockade_realm/binding_calls.js",
);
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const ours = { __proto__: null };

function toWire(value) {
  if (typeof value === "string") {
    checkText(value, "text of the state");
    return { __proto__: null, value: core.encode(value), kind: "t" };
  }
  if (ArrayBufferIsView(value) || core.isArrayBuffer(value)) {
    return { __proto__: null, value: toData(value), kind: "b" };
  }
  const json = JSONStringify(value);
  if (typeof json !== "string") {
    throw new TypeError(`a value of the state must be text, bytes or JSON, not ${typeof value}`);
  }
  checkJson(value, "the value");
  return { __proto__: null, value: core.encode(json), kind: "j" };
}

// Throws for what JSON would make something else of without a word. What has a `toJSON` says itself what it
// becomes; a property that is undefined is absent. The value has been written as JSON: there is no circle.
function checkJson(value, place) {
  switch (typeof value) {
    case "number":
      if (!NumberIsFinite(value)) throw notJson(place, String(value), "");
      return;
    case "undefined":
    case "function":
    case "symbol":
      throw notJson(place, typeof value === "undefined" ? "undefined" : `a ${typeof value}`, "");
    case "object":
      break;
    default:
      return;
  }
  if (value === null || typeof value.toJSON === "function") return;
  if (ArrayIsArray(value)) {
    for (let i = 0; i < value.length; i++) {
      if (!isSimple(value[i])) checkJson(value[i], `${place}[${i}]`);
    }
    return;
  }
  const prototype = ObjectGetPrototypeOf(value);
  if (prototype !== ObjectPrototype && prototype !== null) {
    if (ArrayBufferIsView(value) || core.isAnyArrayBuffer(value)) {
      throw notJson(place, "bytes", ": bytes are a value of their own");
    }
    if (core.isMap(value)) throw notJson(place, "a Map", ": store Object.fromEntries(map) or [...map]");
    if (core.isSet(value)) throw notJson(place, "a Set", ": store [...set]");
    if (core.isBoxedPrimitive(value)) return;
    throw notJson(place, objectName(value), ": store { ...it }, or give it a toJSON method");
  }
  const keys = ObjectKeys(value);
  for (let i = 0; i < keys.length; i++) {
    const item = value[keys[i]];
    if (item !== undefined && !isSimple(item)) checkJson(item, `${place}.${keys[i]}`);
  }
}

function isSimple(value) {
  return typeof value === "string" || typeof value === "boolean" || value === null;
}

function notJson(place, what, instead) {
  if (place.length > 200) place = `${StringPrototypeSlice(place, 0, 200)}...`;
  return new TypeError(`${place} is ${what}, which JSON cannot hold${instead}`);
}

function objectName(value) {
  const name = value.constructor?.name;
  return typeof name === "string" && name !== "" ? `a ${name} object` : "an object of a class";
}

function fromWire(entry, type) {
  if (entry === null || entry === undefined) return null;
  return valueOf(entry.value, type ?? entry.kind);
}

function checkKey(key) {
  if (typeof key !== "string") {
    throw new TypeError(`a key of the state must be a string, not ${typeof key}`);
  }
  return checkText(key, "a key of the state");
}

// JSON would make `null` of a value that is not a number: a condition that the key is absent, or no time to live.
function checkVersion(version) {
  if (version === undefined || version === null || (NumberIsInteger(version) && version >= 0)) {
    return version;
  }
  throw new TypeError(
    `the version must be a number, or null for a key that is absent, not ${String(version)}`,
  );
}

function checkTtl(ttl) {
  if (ttl === undefined || ttl === null) return ttl;
  if (typeof ttl !== "number") throw new TypeError(`a ttl must be a number, not ${typeof ttl}`);
  if (ttl > 0) return ttl;
  throw new RangeError(`a ttl must be a number of seconds above 0, not ${String(ttl)}`);
}

function checkKeys(keys) {
  if (!ArrayIsArray(keys)) throw new TypeError("the keys must be an array of strings");
  const list = [];
  for (let i = 0; i < keys.length; i++) ArrayPrototypePush(list, checkKey(keys[i]));
  return list;
}

function putRequest(key, value, options) {
  const { value: bytes, kind } = toWire(value);
  return {
    __proto__: null,
    key: checkKey(key),
    value: bytes,
    kind,
    ttl: checkTtl(options?.ttl),
    version: checkVersion(options?.version),
  };
}

class StateNamespace {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, request) => call(binding, method, [request]);
  }

  get(key, options = undefined) {
    return this.#get(key, options, (entry, type) => fromWire(entry, type));
  }

  getWithVersion(key, options = undefined) {
    return this.#get(key, options, (entry, type) => ({
      value: fromWire(entry, type),
      version: entry?.version ?? null,
    }));
  }

  #get(key, options, give) {
    return attempt(() => {
      const type = typeOf(options);
      const answer = this.#call("get", { __proto__: null, key: checkKey(key) });
      return PromisePrototypeThen(answer, (entry) => give(entry, type));
    });
  }

  getMany(keys, options = undefined) {
    return attempt(() => {
      const list = checkKeys(keys);
      const type = typeOf(options);
      const answer = this.#call("getMany", { __proto__: null, keys: list });
      return PromisePrototypeThen(answer, (entries) => {
        const map = new Map();
        for (let i = 0; i < list.length; i++) {
          MapPrototypeSet(map, list[i], fromWire(entries[i], type));
        }
        return map;
      });
    });
  }

  put(key, value, options = undefined) {
    return attempt(() => this.#call("put", putRequest(key, value, options)));
  }

  delete(key, options = undefined) {
    return attempt(() =>
      this.#call("delete", {
        __proto__: null,
        key: checkKey(key),
        version: checkVersion(options?.version),
      })
    );
  }

  list(options = undefined) {
    return attempt(() =>
      this.#call("list", {
        __proto__: null,
        prefix: options?.prefix,
        start: options?.start,
        end: options?.end,
        limit: options?.limit,
        cursor: options?.cursor,
        reverse: options?.reverse,
      })
    );
  }

  usage() {
    return attempt(() => this.#call("usage", { __proto__: null }));
  }

  atomic() {
    return new StateAtomic(ours, this.#call);
  }

  // A stream of what happens from now on, or after a version, to these keys or to all with a prefix.
  watch(what, options = undefined) {
    const request = { __proto__: null, version: checkVersion(options?.version) };
    if (typeof what === "string") request.keys = [checkKey(what)];
    else if (ArrayIsArray(what)) request.keys = checkKeys(what);
    else request.prefix = String(what?.prefix ?? "");
    return lines(this.#call("watch", request));
  }
}
webidl.configureInterface(StateNamespace);

// All or nothing: what was asked for is done when every check holds.
class StateAtomic {
  #call;
  #checks = [];
  #mutations = [];
  #done = false;

  constructor(key, call) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = call;
  }

  check(key, version) {
    if (version === undefined) {
      throw new TypeError("the version must be a number, or null for a key that is absent, not undefined");
    }
    checkVersion(version);
    ArrayPrototypePush(this.#checks, { __proto__: null, key: checkKey(key), version });
    return this;
  }

  put(key, value, options = undefined) {
    const { key: name, value: bytes, kind, ttl } = putRequest(key, value, options);
    ArrayPrototypePush(this.#mutations, {
      __proto__: null,
      op: "put",
      key: name,
      value: bytes,
      kind,
      ttl,
    });
    return this;
  }

  delete(key) {
    ArrayPrototypePush(this.#mutations, { __proto__: null, op: "delete", key: checkKey(key) });
    return this;
  }

  commit() {
    return attempt(() => {
      if (this.#done) throw new TypeError("an atomic operation can be committed once");
      this.#done = true;
      return this.#call("atomic", {
        __proto__: null,
        checks: this.#checks,
        mutations: this.#mutations,
      });
    });
  }
}
webidl.configureInterface(StateAtomic);

function create(binding) {
  return new StateNamespace(ours, binding);
}

return { create };
})();
