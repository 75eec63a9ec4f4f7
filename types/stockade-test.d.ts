/**
 * What test files of `stockade test` import from `stockade:test`.
 *
 *     import { expect, test } from "stockade:test";
 *
 *     test("adds", () => {
 *       expect(1 + 2).toBe(3);
 *     });
 *
 * Needs `web.d.ts`, which the declarations of guests and sites include.
 */

declare module "stockade:test" {
  /** A function of a test; it fails if the function throws or its promise rejects. */
  type TestFunction = () => unknown;

  interface TestOptions {
    /** Elapsed time after which the test fails, in milliseconds; `--timeout` by default. */
    timeout?: number;
  }

  interface Test {
    (name: string, run: TestFunction, options?: TestOptions): void;
    /** A test that is not run, and is reported as skipped. */
    skip(name: string, run?: TestFunction, options?: TestOptions): void;
    /** While there are such tests in a file, its others are skipped. */
    only(name: string, run: TestFunction, options?: TestOptions): void;
    /** A test that is still to be written. */
    todo(name: string): void;
  }
  export const test: Test;
  /** The same as `test`. */
  export const it: Test;

  interface Describe {
    /** Names a group of tests. The function runs at once, and is not asynchronous. */
    (name: string, define: () => void): void;
    skip(name: string, define: () => void): void;
    only(name: string, define: () => void): void;
  }
  export const describe: Describe;

  /** Runs before the first test of the group or the file; the others accordingly. */
  export function beforeAll(run: TestFunction): void;
  export function afterAll(run: TestFunction): void;
  export function beforeEach(run: TestFunction): void;
  export function afterEach(run: TestFunction): void;

  /** The site of the project, which runs in isolates of its own as under `stockade dev`. */
  export const site: {
    /** Sends a request. A path begins at the site's address. */
    fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
    /** Its address, such as `http://127.0.0.1:8787/`. */
    readonly url: string;
  };

  /** Fails unless the value is truthy. */
  interface Assert {
    (value: unknown, message?: string): asserts value;
    ok(value: unknown, message?: string): asserts value;
    fail(message?: string): never;
    /** `==` */
    equal(actual: unknown, expected: unknown, message?: string): void;
    notEqual(actual: unknown, expected: unknown, message?: string): void;
    /** `===` */
    strictEqual<T>(actual: unknown, expected: T, message?: string): asserts actual is T;
    notStrictEqual(actual: unknown, expected: unknown, message?: string): void;
    deepEqual<T>(actual: unknown, expected: T, message?: string): void;
    notDeepEqual(actual: unknown, expected: unknown, message?: string): void;
    throws(run: () => unknown, error?: (new (...args: any[]) => Error) | string | RegExp, message?: string): void;
    match(actual: string, pattern: RegExp, message?: string): void;
    include(actual: any, member: any, message?: string): void;
    lengthOf(actual: { length: number } | { size: number }, length: number, message?: string): void;
    isTrue(value: unknown, message?: string): void;
    isFalse(value: unknown, message?: string): void;
    isNull(value: unknown, message?: string): void;
    isUndefined(value: unknown, message?: string): void;
    instanceOf<T>(value: unknown, constructor: new (...args: any[]) => T, message?: string): asserts value is T;
    /** All that Chai's `assert` has: https://www.chaijs.com/api/assert/ */
    [method: string]: any;
  }
  export const assert: Assert;

  /** Asserts about a value, as in Jest and Vitest: https://vitest.dev/api/expect.html */
  interface Matchers<Returned = void> {
    readonly not: Matchers<Returned>;
    toBe(expected: unknown): Returned;
    toEqual(expected: unknown): Returned;
    toStrictEqual(expected: unknown): Returned;
    toMatchObject(expected: object): Returned;
    toBeTruthy(): Returned;
    toBeFalsy(): Returned;
    toBeNull(): Returned;
    toBeUndefined(): Returned;
    toBeDefined(): Returned;
    toBeNaN(): Returned;
    toBeTypeOf(type: "bigint" | "boolean" | "number" | "function" | "object" | "string" | "symbol" | "undefined"): Returned;
    toBeInstanceOf(constructor: abstract new (...args: any[]) => unknown): Returned;
    toBeGreaterThan(number: number | bigint): Returned;
    toBeGreaterThanOrEqual(number: number | bigint): Returned;
    toBeLessThan(number: number | bigint): Returned;
    toBeLessThanOrEqual(number: number | bigint): Returned;
    toBeCloseTo(number: number, digits?: number): Returned;
    toContain(member: unknown): Returned;
    toContainEqual(member: unknown): Returned;
    toHaveLength(length: number): Returned;
    toHaveProperty(path: string | readonly (string | number)[], value?: unknown): Returned;
    toMatch(pattern: string | RegExp): Returned;
    toThrow(error?: string | RegExp | Error | (abstract new (...args: any[]) => unknown)): Returned;
    toThrowError(error?: string | RegExp | Error | (abstract new (...args: any[]) => unknown)): Returned;
    toSatisfy(check: (value: any) => boolean): Returned;
  }
  interface Assertion extends Matchers {
    /** Asserts about what the promise resolves with. */
    readonly resolves: Matchers<Promise<void>>;
    /** Asserts about what the promise rejects with. */
    readonly rejects: Matchers<Promise<void>>;
  }
  interface Expect {
    (actual: unknown, message?: string): Assertion;
    anything(): any;
    any(constructor: unknown): any;
    arrayContaining(members: readonly unknown[]): any;
    objectContaining(expected: object): any;
    stringContaining(text: string): any;
    stringMatching(pattern: string | RegExp): any;
    closeTo(number: number, digits?: number): any;
    readonly not: {
      arrayContaining(members: readonly unknown[]): any;
      objectContaining(expected: object): any;
      stringContaining(text: string): any;
      stringMatching(pattern: string | RegExp): any;
    };
  }
  export const expect: Expect;
}
