// What test files import.

import { afterEach, assert, describe, expect, site, test } from "stockade:test";

describe("group", () => {
  afterEach(() => {});
  test("a", async () => {
    const response: Response = await site.fetch("/", { method: "POST" });
    expect(await response.json()).toMatchObject({ a: expect.any(Number) });
    await expect(Promise.reject(new Error("x"))).rejects.toThrow("x");
    expect([1]).not.toContain(2);
    const value: unknown = "text";
    assert(typeof value === "string");
    value.toUpperCase();
    // @ts-expect-error: there is no such assertion
    expect(1).toBeOne();
  }, { timeout: 100 });
  test.skip("b");
  test.todo("c");
  // @ts-expect-error: a test needs a function
  test("d");
});
