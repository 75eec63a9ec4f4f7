// Loads the built-in modules that the runtime may have, for stand-ins of modules that find them here.

const found = {};
Object.defineProperty(globalThis, "__suiteModules", { value: found });

export async function load() {
  for (const name of ["node:async_hooks"]) {
    try {
      found[name] = await import(name);
    } catch {
      // It is not there: tests that use it are left out.
    }
  }
}
