// The transport under the code mode of `@mastra/core`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createCodeMode, createTool, noopObserve } from "@mastra/core/tools";
import { StockadeTransport } from "stockade/drivers/mastra";
import { z } from "zod";

const rating = createTool({
  id: "get-rating", description: "The rating of a film", inputSchema: z.object({ film: z.string() }), outputSchema: z.object({ rating: z.number() }),
  execute: async ({ film }) => {
    if (film === "none") throw new Error("no such film");
    return { rating: film.length };
  },
});
/** Runs a program in code mode. */
async function run(code, config = {}) {
  const { tool } = createCodeMode({ tools: { rating }, ...config }, new StockadeTransport({ program: process.env.STOCKADE }));
  return tool.execute({ code }, { observe: noopObserve });
}

test("program_calls_tools_and_returns", async () => {
  const result = await run(`
    const films: string[] = ["Alien", "M"];
    const all = await Promise.all(films.map((film) => external_get_rating({ film })));
    console.log("asked");
    return all.map(({ rating }) => rating);`);
  assert.deepEqual(result, { success: true, result: [5, 1], logs: ["asked"] });
});

test("error_has_the_line_of_the_program", async () => {
  const { success, error } = await run("const a = 1;\nthrow new RangeError('no');");
  assert.deepEqual([success, error.name, error.message, error.line], [false, "RangeError", "no", 2]);
  assert.match((await run("return await external_get_rating({ film: 'none' })")).error.message, /no such film/);
  assert.match((await run("return await external_get_rating({ film: 5 })")).error.message, /film/);
});

test("only_listed_tools_are_there", async () => {
  assert.deepEqual((await run("return [typeof external_other, typeof process, typeof require]")).result, ["undefined", "undefined", "undefined"]);
});

test("timeout_ends_a_program", async () => {
  assert.equal((await run("for (;;);", { timeout: 300 })).success, false);
});
