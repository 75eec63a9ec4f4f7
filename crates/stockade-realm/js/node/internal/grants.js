// What the guest is granted: a site finds it in the `env` of its module, another guest in `NETWORK.env`.

// The grants whose objects are of this class, by their names.
export function granted(className) {
  const env = globalThis[Symbol.for("cloudflare:workers")]?.env ?? globalThis.NETWORK?.env ?? {};
  const found = new Map();
  for (const name of Object.keys(env)) {
    const value = env[name];
    if (typeof value === "object" && value !== null && value[Symbol.toStringTag] === className) found.set(name, value);
  }
  return found;
}
