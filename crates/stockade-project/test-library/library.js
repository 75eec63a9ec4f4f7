// What test files of `stockade test` import as "stockade:test". The program calls `list`, `select` and `run`, which the
// declarations leave out.

import { assert, difference, expect } from "/stockade-expect.js";

export { assert, expect };

const MAX_TESTS = 10_000;
const tests = [];
const newGroup = (name, parent, mode) => ({
  name,
  parent,
  mode,
  hooks: { beforeAll: [], afterAll: [], beforeEach: [], afterEach: [] },
  begun: false,
  failed: undefined,
  left: 0,
});
let group = newGroup("", undefined, "run");
let isListed = false;

function define(name, run, mode, options) {
  if (isListed) throw new Error("a test must be defined while its file is loaded, and not by another test");
  if (tests.length >= MAX_TESTS) throw new RangeError(`a file has more than ${MAX_TESTS} tests`);
  if (mode !== "todo" && mode !== "skip" && typeof run !== "function") {
    throw new TypeError(`the test '${name}' has no function`);
  }
  tests.push({ name: String(name), run, mode, group, timeout: options?.timeout });
}

export const test = (name, run, options) => define(name, run, "run", options);
test.skip = (name, run, options) => define(name, run, "skip", options);
test.only = (name, run, options) => define(name, run, "only", options);
test.todo = (name) => define(name, undefined, "todo");
export const it = test;

function defineGroup(name, run, mode) {
  const outer = group;
  group = newGroup(String(name), outer, mode);
  try {
    const result = run();
    if (typeof result?.then === "function") throw new TypeError(`the function of describe('${name}') is asynchronous`);
  } finally {
    group = outer;
  }
}

export const describe = (name, run) => defineGroup(name, run, "run");
describe.skip = (name, run) => defineGroup(name, run, "skip");
describe.only = (name, run) => defineGroup(name, run, "only");

const hook = (kind) => (run) => {
  if (typeof run !== "function") throw new TypeError(`${kind} takes a function`);
  group.hooks[kind].push(run);
};
export const beforeAll = hook("beforeAll");
export const afterAll = hook("afterAll");
export const beforeEach = hook("beforeEach");
export const afterEach = hook("afterEach");

const address = globalThis.NETWORK.env.STOCKADE_TEST_SITE;
export const site = {
  get url() {
    if (!address) throw new Error("there is no site: the project has neither stockade.yaml nor index.ts");
    return address;
  },
  fetch(input, init) {
    if (input instanceof Request) return fetch(input, init);
    return fetch(new URL(input, site.url), init);
  },
};

/** The groups around a test, the outermost first. */
function chain(inner) {
  const groups = [];
  for (let one = inner; one; one = one.parent) groups.unshift(one);
  return groups;
}

/** The tests of the file, and whether each is to be run. */
export function list() {
  isListed = true;
  const modes = tests.map(({ mode, group }) => [mode, ...chain(group).map((one) => one.mode)]);
  const hasOnly = modes.some((of) => of.includes("only"));
  return tests.map(({ name, mode, group, timeout }, index) => {
    const names = [...chain(group).map((one) => one.name).filter((one) => one !== ""), name];
    const skips = modes[index].includes("skip") || (hasOnly && !modes[index].includes("only"));
    return {
      name: names.join(" > "),
      mode: mode === "todo" ? "todo" : skips ? "skip" : "run",
      timeout: Number.isFinite(timeout) ? timeout : null,
    };
  });
}

/** States which tests will be run, in order. */
export function select(indexes) {
  for (const index of indexes) for (const one of chain(tests[index].group)) one.left += 1;
}

async function within(run, timeout) {
  let timer;
  const late = new Promise((_, reject) => {
    if (timeout > 0) {
      timer = setTimeout(() => reject(new Error(`the test was not done within ${timeout} ms`)), timeout);
    }
  });
  try {
    await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a test with its hooks, and says how long it took and what it threw. */
export async function run(index, timeout) {
  const { run, group } = tests[index];
  const groups = chain(group);
  const began = performance.now();
  let thrown;
  const attempt = async (work) => {
    try {
      await within(work, timeout);
    } catch (error) {
      thrown ??= { error };
    }
  };
  for (const one of groups) {
    if (!one.begun) {
      one.begun = true;
      for (const hook of one.hooks.beforeAll) await attempt(hook);
      one.failed = thrown;
    }
    thrown ??= one.failed;
  }
  if (!thrown) {
    for (const one of groups) for (const hook of one.hooks.beforeEach) if (!thrown) await attempt(hook);
    if (!thrown) await attempt(run);
    for (const one of groups.toReversed()) for (const hook of one.hooks.afterEach) await attempt(hook);
  }
  for (const one of groups.toReversed()) {
    one.left -= 1;
    if (one.left === 0) for (const hook of one.hooks.afterAll) await attempt(hook);
  }
  return { ms: performance.now() - began, error: thrown ? describeError(thrown.error) : null };
}

function describeError(error) {
  if (!(error instanceof Error)) return { message: `thrown: ${String(error)}`, stack: "", diff: null };
  let diff = null;
  try {
    if (error.showDiff || ("expected" in error && "actual" in error)) {
      diff = difference(error.expected, error.actual) ?? null;
    }
  } catch {
    // What cannot be compared has no diff.
  }
  return { message: `${error.name}: ${error.message}`, stack: String(error.stack ?? ""), diff };
}
