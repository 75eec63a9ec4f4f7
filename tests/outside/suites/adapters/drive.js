// Runs the tests of one file in a guest, one after the other, and reports each as it begins and as it ends: what ends
// the guest in the middle loses nothing that came before.

let missing = null;

/** Marks the running test as one that needs `what`, which only the suite's own runtime has. */
export function lacks(what) {
  missing ??= String(what);
  return new Error(`not in a guest: ${what}`);
}

/** An object with what is in `known`, where every other property needs the suite's own runtime. */
export function stub(what, known = {}) {
  const refuse = (name) => {
    const inner = function () {
      throw lacks(`${what}.${name}`);
    };
    return new Proxy(inner, {
      get: (target, key) => (typeof key === "symbol" || key === "prototype" ? target[key] : refuse(`${name}.${key}`)),
      construct() {
        throw lacks(`${what}.${name}`);
      },
    });
  };
  // Where it is the prototype, what bundlers copy from the object finds the rest as well.
  const rest = new Proxy(Object.create(Object.prototype), {
    get: (target, key) => (key in target || typeof key === "symbol" || key === "then" || key === "__esModule" ? target[key] : refuse(key)),
    has: (target, key) => key in target,
  });
  return Object.assign(Object.create(rest), known);
}

function describe(error) {
  let text;
  try {
    text = error instanceof Error || error instanceof DOMException
      ? `${error.name}: ${error.message}\n${error.stack ?? ""}`
      : `thrown: ${typeof error === "object" ? JSON.stringify(error) : String(error)}`;
  } catch {
    text = "what was thrown cannot be shown";
  }
  return text.slice(0, 2000);
}

// Tests replace globals.
const { setTimeout, clearTimeout, Promise, Error } = globalThis;

function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * @param tests `{ name, run, skip? }` of each
 * @param skip names of tests that are not to run again
 * @param report is given `{ begin: name }`, then `{ name, ok, error?, missing? }`
 */
export async function drive(tests, skip, report, ms = __MS__) {
  const seen = new Map();
  for (const test of tests) {
    const count = (seen.get(test.name) ?? 0) + 1;
    seen.set(test.name, count);
    const name = count === 1 ? test.name : `${test.name} (${count})`;
    if (skip.includes(name)) continue;
    if (test.skip) {
      await report({ name, ok: true, missing: `left out by the suite itself` });
      continue;
    }
    await report({ begin: name });
    missing = null;
    try {
      await within(test.ms ?? ms, (async () => test.run())());
      await report({ name, ok: true });
    } catch (error) {
      await report({ name, ok: false, error: describe(error), ...(missing ? { missing } : {}) });
    }
  }
}
