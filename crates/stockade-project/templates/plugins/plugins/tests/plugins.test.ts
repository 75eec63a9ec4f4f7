import { expect, test } from "stockade:test";
import { words } from "../count.ts";
import { transform } from "../shout.ts";

test("shout is in capitals", () => {
  expect(transform("quiet")).toBe("QUIET!");
});

test("count knows words", () => {
  expect(words("  one two\nthree ")).toBe(3);
  expect(words("")).toBe(0);
});
