// Stands for what workerd gives its tests: `node:assert`, `node:test`, `Cloudflare`, bindings and `export const name = { test() }`.

import { AssertionError, alike, check, same, show } from "./compare.js";
import { lacks, stub } from "./drive.js";

globalThis.Cloudflare ??= { compatibilityFlags: Object.fromEntries(__FLAGS__.map((flag) => [flag, true])) };

export function collect(file, env, ctx) {
  const bindings = new Proxy(env, {
    get(target, key) {
      if (typeof key === "symbol" || key in target) return target[key];
      if (__BINDINGS__.includes(key)) throw lacks(`the binding ${key}`);
      return undefined;
    },
  });
  const tests = [];
  for (const [name, value] of Object.entries(file)) {
    if (typeof value?.test === "function") tests.push({ name, run: () => value.test({}, bindings, ctx) });
    else if (name !== "default" && typeof value === "function" && typeof value.prototype?.test === "function") {
      tests.push({ name, run: () => new value(ctx, bindings).test({}) });
    }
  }
  return tests;
}

function fits(error, wanted, message) {
  if (wanted === undefined || typeof wanted === "string") return;
  if (wanted instanceof RegExp) {
    check(wanted.test(String(error)), message, () => `${String(error)} does not match ${wanted}`);
  } else if (typeof wanted === "function") {
    if (wanted.prototype !== undefined && error instanceof wanted) return;
    if (Error.isPrototypeOf(wanted) || wanted === Error || wanted === DOMException) {
      check(false, message, () => `thrown was ${show(error)}, not ${wanted.name}`);
    }
    check(wanted(error) === true, message, () => `the check of ${show(error)} did not give true`);
  } else {
    const keys = wanted instanceof Error ? ["name", "message", ...Object.keys(wanted)] : Object.keys(wanted);
    for (const key of keys) {
      const [has, want] = [error?.[key], wanted[key]];
      check(
        want instanceof RegExp && typeof has === "string" ? want.test(has) : same(has, want),
        message,
        () => `${key} is ${show(has)}, not ${show(want)}`,
      );
    }
  }
}

const assert = (truth, message) => check(truth, message, () => `${show(truth)} is not true`);
Object.assign(assert, {
  AssertionError,
  ok: assert,
  fail: (message) => check(false, message, () => "failed"),
  equal: (a, b, message) => check(a == b || (a !== a && b !== b), message, () => `${show(a)} is not ${show(b)}`),
  notEqual: (a, b, message) => check(a != b, message, () => `both are ${show(a)}`),
  strictEqual: (a, b, message) => check(Object.is(a, b), message, () => `${show(a)} is not ${show(b)}`),
  notStrictEqual: (a, b, message) => check(!Object.is(a, b), message, () => `both are ${show(a)}`),
  deepEqual: (a, b, message) => check(alike(a, b), message, () => `${show(a)} is not ${show(b)}`),
  notDeepEqual: (a, b, message) => check(!alike(a, b), message, () => `both are ${show(a)}`),
  deepStrictEqual: (a, b, message) => check(same(a, b), message, () => `${show(a)} is not ${show(b)}`),
  notDeepStrictEqual: (a, b, message) => check(!same(a, b), message, () => `both are ${show(a)}`),
  match: (text, pattern, message) => check(pattern.test(text), message, () => `${show(text)} does not match ${pattern}`),
  doesNotMatch: (text, pattern, message) => check(!pattern.test(text), message, () => `${show(text)} matches ${pattern}`),
  ifError: (error) => check(error === null || error === undefined, undefined, () => show(error)),
  throws(fn, wanted, message) {
    try {
      fn();
    } catch (error) {
      return fits(error, wanted, message);
    }
    check(false, typeof wanted === "string" ? wanted : message, () => "it did not throw");
  },
  doesNotThrow: (fn) => void fn(),
  async rejects(given, wanted, message) {
    try {
      await (typeof given === "function" ? given() : given);
    } catch (error) {
      return fits(error, wanted, message);
    }
    check(false, typeof wanted === "string" ? wanted : message, () => "it did not reject");
  },
  async doesNotReject(given) {
    await (typeof given === "function" ? given() : given);
  },
});
assert.strict = assert;
assert.default = assert;

function fn(implementation = () => undefined) {
  const calls = [];
  const made = function (...given) {
    const call = { arguments: given, this: this };
    calls.push(call);
    return (call.result = implementation.apply(this, given));
  };
  made.mock = {
    calls,
    callCount: () => calls.length,
    resetCalls: () => calls.splice(0),
    mockImplementation: (next) => void (implementation = next),
  };
  return made;
}

const mock = stub("node:test.mock", {
  fn,
  method(owner, name, implementation) {
    const before = owner[name];
    owner[name] = Object.assign(fn(implementation ?? before));
    owner[name].mock.restore = () => void (owner[name] = before);
    return owner[name];
  },
});

export const modules = {
  "node:assert": assert,
  "node:test": stub("node:test", { mock }),
};
