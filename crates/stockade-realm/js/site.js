// What a site's module is: its handlers, and the methods that other sites may call.

(function () {
const { primordials } = __bootstrap;
const {
  ArrayPrototypeFilter,
  ArrayPrototypeJoin,
  ObjectGetOwnPropertyDescriptor,
  ObjectGetPrototypeOf,
  ObjectHasOwn,
  ObjectKeys,
  ObjectPrototype,
  ObjectPrototypeIsPrototypeOf,
  SafeSet,
  SetPrototypeHas,
  String,
  TypeError,
} = primordials;

// Names that are listed to the host.
const MAX_NAMES = 100;

// What other sites cannot call by name.
const RESERVED = new SafeSet(["constructor", "fetch", "scheduled", "then"]);

const FORM =
  "export default { async fetch(request, env, ctx) { return new Response('hello'); } }";

// The base class of a default export that is a class: an object of it answers one request.
class WorkerEntrypoint {
  constructor(ctx, env) {
    this.ctx = ctx;
    this.env = env;
  }
}
const WorkerEntrypointPrototype = WorkerEntrypoint.prototype;

// The names that a module or an object has, not too many of them.
function namesOf(object) {
  const names = ObjectKeys(object);
  if (names.length > MAX_NAMES) names.length = MAX_NAMES;
  return names;
}

function listed(names) {
  return names.length === 0 ? "nothing" : ArrayPrototypeJoin(names, ", ");
}

// Throws a sentence that teaches the form where there is no handler.
function find(namespace) {
  const form = `a site is an ES module of the form: ${FORM}`;
  if (!ObjectHasOwn(namespace, "default") || namespace.default === undefined) {
    const others = ArrayPrototypeFilter(namesOf(namespace), (name) => name !== "default");
    throw new TypeError(
      `the module has no default export; it exports ${listed(others)}: ${form}`,
    );
  }
  const target = namespace.default;
  if (typeof target === "function") {
    const { prototype } = target;
    if (!ObjectPrototypeIsPrototypeOf(WorkerEntrypointPrototype, prototype)) {
      throw new TypeError(
        "the module's default export is a function: export an object with a fetch method, or a class " +
          `that extends WorkerEntrypoint of "cloudflare:workers"; ${form}`,
      );
    }
    return checkHandlers({
      __proto__: null,
      target,
      entrypoint: target,
      fetch: method(prototype, "fetch"),
      scheduled: method(prototype, "scheduled"),
      connect: handler(prototype, "connect"),
    }, prototype, form);
  }
  if (typeof target !== "object" || target === null) {
    throw new TypeError(`the module's default export is not an object, it is ${kindOf(target)}: ${form}`);
  }
  return checkHandlers({
    __proto__: null,
    target,
    entrypoint: undefined,
    fetch: method(target, "fetch"),
    scheduled: method(target, "scheduled"),
    connect: handler(target, "connect"),
  }, target, form);
}

function kindOf(value) {
  return value === null || value === undefined ? String(value) : `a ${typeof value}`;
}

function method(target, name) {
  const value = target[name];
  if (value === undefined) return undefined;
  if (typeof value !== "function") {
    throw new TypeError(`'${name}' of the module's default export must be a function, not ${kindOf(value)}`);
  }
  return value;
}

// A handler whose name was none before: a site may have something else there.
function handler(target, name) {
  const value = target[name];
  return typeof value === "function" ? value : undefined;
}

function checkHandlers(found, target, form) {
  if (found.fetch === undefined && found.scheduled === undefined && found.connect === undefined) {
    throw new TypeError(
      `the module's default export has neither fetch nor scheduled, it has ${
        listed(namesOf(target))
      }: ${form}`,
    );
  }
  return found;
}

// The method of a site that others may call by this name, its own or of its class.
function callable(site, name) {
  if (SetPrototypeHas(RESERVED, name)) return undefined;
  return methodOf(site.entrypoint === undefined ? site.target : site.entrypoint.prototype, name);
}

// Nothing that every object has is a method of this one; no getter runs.
function methodOf(target, name) {
  let holder = target;
  while (
    holder !== null && holder !== ObjectPrototype && holder !== WorkerEntrypointPrototype
  ) {
    const found = ObjectGetOwnPropertyDescriptor(holder, name);
    if (found !== undefined) return typeof found.value === "function" ? found.value : undefined;
    holder = ObjectGetPrototypeOf(holder);
  }
  return undefined;
}

return { callable, find, FORM, namesOf, WorkerEntrypoint };
})();
