// Functions of the host in the option `env`: they stay here, and the guest receives their places.
//
// The guest's runtime puts a function at each place. Calling it is the request `env:<path>` with the
// arguments as its data. A guest can name any path; only those found here when the isolate was made
// lead to a function.

const MAX_DEPTH = 32;
const MAX_FUNCTIONS = 256;

// Far below the bound of a request's name, whatever UTF-8 adds.
const MAX_PATH_LENGTH = 256;

// Read by `stockade_realm/network.js`.
const FUNCTIONS = "\0functions";

const PREFIX = "env:";

// Takes the functions out of the options' `env`. Gives the options as they go to the runtime, and the
// functions by the name of their request; `undefined` where the options have no `env`.
export function takeFunctions(options) {
  const { env } = options;
  // A value that is not an object is rejected with all other wrong options.
  if (typeof env !== "object" || env === null || Array.isArray(env)) return { options };
  const found = { functions: new Map(), paths: [] };
  for (const key of Object.keys(env)) {
    if (key.startsWith("\0")) {
      throw new TypeError("env: no name may begin with U+0000");
    }
  }
  const data = copy(env, [], found);
  if (found.paths.length > 0) data[FUNCTIONS] = found.paths;
  return { options: { ...options, env: data }, functions: found.functions };
}

// The data without its functions, which go into `found`.
function copy(value, path, found) {
  if (typeof value !== "object" || value === null) return value;
  const isArray = Array.isArray(value);
  // A class that says itself how it becomes JSON, such as Date.
  if (!isArray && !Object.hasOwn(value, "toJSON") && typeof value.toJSON === "function") return value;
  if (path.length >= MAX_DEPTH) {
    throw new TypeError(`env: nested deeper than ${MAX_DEPTH} levels, or in a circle`);
  }
  const data = isArray ? [] : Object.create(null);
  for (const key of Object.keys(value)) {
    const item = value[key];
    const place = [...path, key];
    if (typeof item === "function") {
      add(item, place, found);
      if (isArray) data[key] = null;
    } else {
      data[key] = copy(item, place, found);
    }
  }
  return data;
}

function add(fn, path, found) {
  const name = path.join(".");
  if (path.includes("__proto__")) throw new TypeError(`env: a function cannot lie at '${name}'`);
  if (name.length > MAX_PATH_LENGTH) {
    throw new TypeError(
      `env: the path of a function has ${name.length} characters; the limit is ${MAX_PATH_LENGTH}`,
    );
  }
  if (found.functions.has(PREFIX + name)) {
    throw new TypeError(`env: two functions are both called '${name}'`);
  }
  if (found.functions.size >= MAX_FUNCTIONS) {
    throw new TypeError(`env: more than ${MAX_FUNCTIONS} functions`);
  }
  found.functions.set(PREFIX + name, fn);
  found.paths.push(path);
}

// Answers a request for a function: no `this`, no way to the host but the arguments.
export function callFunction(fn, args) {
  if (!Array.isArray(args)) throw new TypeError("the arguments must be a list");
  return Reflect.apply(fn, undefined, args);
}
