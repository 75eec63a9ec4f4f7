import { describe, expect, test } from "stockade:test";
import { add, mean } from "../src/api.ts";

test("add", () => {
  expect(add(2, 3)).toBe(5);
});

describe("mean", () => {
  test("of some numbers", () => {
    expect(mean([1, 2, 6])).toBe(3);
  });
  test("of none is an error", () => {
    expect(() => mean([])).toThrow(RangeError);
  });
});
