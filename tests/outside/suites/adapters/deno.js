// Stands for `Deno.test`, `@std` and the `test_util.ts` of Deno's unit tests.

import { AssertionError, check, same, show } from "./compare.js";
import { lacks, stub } from "./drive.js";

const tests = [];

function add(...given) {
  const options = {};
  let fn;
  for (const one of given) {
    if (typeof one === "string") options.name = one;
    else if (typeof one === "function") fn = one;
    else Object.assign(options, one);
  }
  fn ??= options.fn;
  const name = options.name ?? fn.name;
  tests.push({ name, skip: options.ignore, run: () => fn(context(name)) });
}

const context = (name) => ({
  name,
  async step(...given) {
    const [fn] = given.filter((one) => typeof one === "function");
    const made = given.find((one) => typeof one === "object") ?? {};
    if (made.ignore) return true;
    await (fn ?? made.fn)(context(`${name} ${given[0]?.name ?? given[0]}`));
    return true;
  },
});

const test = Object.assign(add, {
  ignore: (...given) => add({ ignore: true }, ...given),
  only: add,
});

const internal = Symbol("Deno.internal");
globalThis.Deno = stub("Deno", {
  test,
  internal,
  [internal]: stub("Deno[Deno.internal]"),
  args: [],
  build: { os: "linux", arch: "x86_64", target: "x86_64-unknown-linux-gnu", standalone: false },
  version: { deno: "2.0.0", v8: "0", typescript: "0" },
});

export const collect = () => tests;

function fits(error, Kind, part, message) {
  check(error instanceof Error || error instanceof DOMException, message, () => `thrown was ${show(error)}, no Error`);
  if (Kind) {
    check(error instanceof Kind, message, () => `thrown was ${error.name}: ${error.message}, not ${Kind.name}`);
  }
  if (part !== undefined) {
    check(error.message.includes(part), message, () => `the message is ${show(error.message)}, without ${show(part)}`);
  }
  return error;
}

const kinds = (Kind, part, message) => (typeof Kind === "string" ? [undefined, undefined, Kind] : [Kind, part, message]);

const known = {
  AssertionError,
  assert: (truth, message) => check(truth, message, () => "it is not so"),
  assertFalse: (truth, message) => check(!truth, message, () => "it is so"),
  assertExists: (value, message) => check(value !== undefined && value !== null, message, () => `it is ${value}`),
  assertEquals: (a, b, message) => check(same(a, b), message, () => `${show(a)} is not ${show(b)}`),
  assertNotEquals: (a, b, message) => check(!same(a, b), message, () => `both are ${show(a)}`),
  assertStrictEquals: (a, b, message) => check(Object.is(a, b), message, () => `${show(a)} is not ${show(b)}`),
  assertNotStrictEquals: (a, b, message) => check(!Object.is(a, b), message, () => `both are ${show(a)}`),
  assertAlmostEquals: (a, b, by = 1e-7, message) =>
    check(Object.is(a, b) || Math.abs(a - b) <= by, message, () => `${a} is not near ${b}`),
  assertGreater: (a, b, message) => check(a > b, message, () => `${show(a)} <= ${show(b)}`),
  assertGreaterOrEqual: (a, b, message) => check(a >= b, message, () => `${show(a)} < ${show(b)}`),
  assertLess: (a, b, message) => check(a < b, message, () => `${show(a)} >= ${show(b)}`),
  assertLessOrEqual: (a, b, message) => check(a <= b, message, () => `${show(a)} > ${show(b)}`),
  assertInstanceOf: (value, Kind, message) => check(value instanceof Kind, message, () => `${show(value)} is no ${Kind.name}`),
  assertMatch: (text, pattern, message) => check(pattern.test(text), message, () => `${show(text)} does not match ${pattern}`),
  assertNotMatch: (text, pattern, message) => check(!pattern.test(text), message, () => `${show(text)} matches ${pattern}`),
  assertStringIncludes: (text, part, message) => check(text.includes(part), message, () => `${show(text)} is without ${show(part)}`),
  assertArrayIncludes: (all, some, message) =>
    check(some.every((one) => all.some((other) => same(one, other))), message, () => `${show(all)} is without one of ${show(some)}`),
  assertIsError: (error, Kind, part, message) => fits(error, Kind, part, message),
  assertThrows(fn, ...rest) {
    const [Kind, part, message] = kinds(...rest);
    let thrown;
    try {
      fn();
    } catch (error) {
      return fits(error, Kind, part, message);
    }
    check(false, message, () => `it did not throw: ${thrown}`);
  },
  async assertRejects(fn, ...rest) {
    const [Kind, part, message] = kinds(...rest);
    try {
      await fn();
    } catch (error) {
      return fits(error, Kind, part, message);
    }
    check(false, message, () => "it did not reject");
  },
  fail: (message) => check(false, message, () => "failed"),
  unimplemented: (message) => check(false, message, () => "unimplemented"),
  unreachable: (message) => check(false, message, () => "unreachable"),
  delay: (ms, { signal } = {}) =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason);
      });
    }),
  concat(parts) {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  },
  stripAnsiCode: (text) => text.replace(/\x1b\[[0-9;]*m/g, ""),
  lacks,
};
known.default = known;
export const std = stub("test_util", known);
