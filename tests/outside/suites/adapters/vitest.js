// Stands for vitest, with vitest's own `expect`.

import {
  ASYMMETRIC_MATCHERS_OBJECT, GLOBAL_EXPECT, JestAsymmetricMatchers, JestChaiExpect, JestExtend, addCustomEqualityTesters,
  customMatchers, getState, setState,
} from "@vitest/expect";
import * as spies from "@vitest/spy";
import * as chai from "chai";
import { lacks, stub } from "./drive.js";

// The tests are written for Node, where it is there.
globalThis.global ??= globalThis;

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

const expect = (value, message) => {
  const { assertionCalls } = getState(expect);
  setState({ assertionCalls: assertionCalls + 1 }, expect);
  return chai.expect(value, message);
};
Object.assign(expect, chai.expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);
expect.getState = () => getState(expect);
expect.setState = (state) => setState(state, expect);
expect.assertions = (count) => void (wanted = count);
expect.hasAssertions = () => void (wanted = -1);
expect.addEqualityTesters = addCustomEqualityTesters;
expect.unreachable = (message) => chai.assert.fail(message ?? "unreachable");
setState({ assertionCalls: 0, isExpectingAssertions: false, expectedAssertionsNumber: null, currentTestName: "" }, expect);
globalThis[GLOBAL_EXPECT] = expect;
expect.extend = (matchers) => chai.expect.extend(expect, matchers);
expect.extend(customMatchers);
for (const name of ["toMatchSnapshot", "toMatchInlineSnapshot", "toThrowErrorMatchingInlineSnapshot", "toMatchFileSnapshot"]) {
  chai.Assertion.addMethod(name, () => {
    throw lacks(`snapshots (${name})`);
  });
}
let wanted = null;

// Node's and Deno's blobs keep what makes each one distinct where equality looks.
expect.addEqualityTesters([
  (a, b) => (a instanceof Blob && b instanceof Blob ? a.size === b.size && a.type === b.type : undefined),
]);

const tests = [];
const group = (parent, name, skip) => ({ parent, name, skip, before: [], after: [], all: [], done: [], started: false });
let here = group(null, "", false);
const root = here;

function chain(at) {
  return at ? [...chain(at.parent), at] : [];
}

const asSuite = (at) => (at.parent ? { name: at.name, suite: asSuite(at.parent) } : undefined);

function addTest(name, options, fn, skip) {
  if (typeof options === "function") [options, fn] = [fn ?? {}, options];
  const at = here;
  const path = chain(at);
  const called = [...path.map((one) => one.name), name].filter(Boolean).join(" > ");
  const test = {
    name: called,
    skip: skip || path.some((one) => one.skip) || fn === undefined,
    async run() {
      for (const one of path) {
        if (one.started) continue;
        one.started = true;
        for (const hook of one.all) await hook();
      }
      wanted = null;
      setState({ assertionCalls: 0 }, expect);
      const cleanups = [];
      const context = {
        expect,
        task: { name, suite: asSuite(at) },
        signal: new AbortController().signal,
        skip() {
          throw lacks("left out by the suite itself");
        },
        onTestFinished: (done) => cleanups.push(done),
      };
      try {
        for (const one of path) for (const hook of one.before) await hook(context);
        await fn(context);
        const { assertionCalls } = getState(expect);
        if (wanted === -1 ? !assertionCalls : wanted !== null && wanted !== assertionCalls) {
          throw new Error(`${assertionCalls} assertions, not ${wanted}`);
        }
      } finally {
        for (const one of [...path].reverse()) for (const hook of [...one.after].reverse()) await hook(context);
        for (const done of cleanups) await done();
        for (const one of path) {
          if (one.last === test) for (const hook of one.done) await hook();
        }
      }
    },
  };
  tests.push(test);
  if (!test.skip) for (const one of path) one.last = test;
}

function addGroup(name, options, fn, skip) {
  if (typeof options === "function") fn = options;
  const before = here;
  here = group(before, name, skip);
  try {
    fn?.();
  } finally {
    here = before;
  }
}

function format(name, values, index) {
  let at = 0;
  return name
    .replace(/%[sdifjo]/g, () => {
      const value = values[at++];
      return typeof value === "object" ? JSON.stringify(value) : String(value);
    })
    .replace(/%#/g, index)
    .replace(/\$(\w+)/g, (whole, key) => (values[0] && typeof values[0] === "object" && key in values[0] ? String(values[0][key]) : whole));
}

/** The cases of a table that is written as a template: a row of names, then rows of values. */
function table([head], values) {
  const names = head.split("|").map((one) => one.trim());
  return Array.from({ length: values.length / names.length }, (_, row) =>
    Object.fromEntries(names.map((name, column) => [name, values[row * names.length + column]])));
}

function variants(add) {
  const plain = (name, options, fn) => add(typeof name === "function" ? name.name : String(name), options, fn, false);
  const skip = (name, options, fn) => add(String(name), options, fn ?? (() => {}), true);
  plain.each = (cases, ...values) => (name, options, fn) => {
    if (cases.raw) cases = table(cases, values);
    if (typeof options === "function") fn = options;
    cases.forEach((one, index) => {
      const given = Array.isArray(one) ? one : [one];
      plain(format(name, given, index), {}, () => fn(...given));
    });
  };
  return Object.assign(plain, {
    only: plain, concurrent: plain, sequential: plain, skip, todo: (name) => skip(name),
    skipIf: (is) => (is ? skip : plain),
    runIf: (is) => (is ? plain : skip),
  });
}

const stubbed = new Map();
const vi = stub("vi", {
  fn: spies.fn,
  spyOn: spies.spyOn,
  isMockFunction: spies.isMockFunction,
  mocked: (value) => value,
  hoisted: (make) => make(),
  restoreAllMocks: () => spies.restoreAllMocks(),
  clearAllMocks: () => spies.clearAllMocks(),
  resetAllMocks: () => spies.resetAllMocks(),
  stubGlobal(name, value) {
    if (!stubbed.has(name)) stubbed.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true });
  },
  unstubAllGlobals() {
    for (const [name, was] of stubbed) {
      if (was) Object.defineProperty(globalThis, name, was);
      else delete globalThis[name];
    }
    stubbed.clear();
  },
  async waitFor(check, options = {}) {
    const until = Date.now() + (options.timeout ?? 1000);
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (Date.now() > until) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, options.interval ?? 50));
    }
  },
});

const types = () => new Proxy(() => types(), { get: (_, key) => (key === "then" ? undefined : types()) });

const it = variants(addTest);
const known = {
  it, test: it, describe: variants(addGroup), suite: variants(addGroup), expect, vi, vitest: vi,
  beforeEach: (hook) => void here.before.push(hook),
  afterEach: (hook) => void here.after.push(hook),
  beforeAll: (hook) => void here.all.push(hook),
  afterAll: (hook) => void here.done.push(hook),
  expectTypeOf: types(), assertType: () => {}, assert: chai.assert, chai,
};
Object.assign(globalThis, known);

export const vitest = stub("vitest", known);
export const collect = () => {
  here = root;
  return tests;
};
