import { expect, test } from "stockade:test";
import { tools } from "../tools.ts";

test("each name is a tool", () => {
  expect(tools.weather).toBeTypeOf("function");
  expect(tools.then).toBeUndefined();
});

test("a tool that the host does not have rejects", async () => {
  await expect(tools.none({})).rejects.toThrow();
});
