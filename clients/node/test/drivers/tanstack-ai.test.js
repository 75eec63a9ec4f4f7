// The driver under `@tanstack/ai-code-mode`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toolDefinition } from "@tanstack/ai";
import { createCodeMode } from "@tanstack/ai-code-mode";
import { createStockadeDriver } from "stockade/drivers/tanstack-ai";
import { z } from "zod";

const driver = createStockadeDriver({ program: process.env.STOCKADE });
const price = toolDefinition({
  name: "price", description: "The price of a good", inputSchema: z.object({ good: z.string() }), outputSchema: z.object({ price: z.number() }),
}).server(({ good }) => {
  if (good === "gold") throw new Error("not for sale");
  return { price: good.length };
});

/** Runs a program in code mode, and collects the events that it emits. */
async function run(typescriptCode, options = {}) {
  const events = [];
  const { tool } = createCodeMode({ driver, tools: [price], ...options });
  const result = await tool.execute({ typescriptCode }, { emitCustomEvent: (name, value) => events.push([name, value]) });
  return { ...result, events };
}

test("program_calls_tools_and_returns", async () => {
  const { success, result, logs, events } = await run(`
    interface Priced { price: number }
    const all: Priced[] = await Promise.all(["tea", "milk"].map((good) => external_price({ good })));
    console.log("asked"); console.error("odd");
    return all.reduce((sum, { price }) => sum + price, 0);`);
  assert.deepEqual({ success, result }, { success: true, result: 7 });
  assert.equal(logs.length, 2);
  assert.equal(logs[1], "ERROR: odd");
  assert.equal(events.filter(([name]) => name === "code_mode:external_result").length, 2);
});

test("errors_of_tools_and_programs_are_results", async () => {
  const caught = await run("try { await external_price({ good: 'gold' }) } catch (e) { return e.message }");
  assert.equal(caught.result, "not for sale");
  const invalid = await run("return await external_price({ good: 5 })");
  assert.equal(invalid.success, false);
  assert.match(invalid.error.message, /Input validation failed for tool price/);
  const thrown = await run("null.x");
  assert.deepEqual([thrown.success, thrown.error.name], [false, "TypeError"]);
});

test("timeout_and_memory_of_code_mode_are_limits", async () => {
  assert.equal((await run("for (;;);", { timeout: 300 })).success, false);
  const hoard = (most) => `const kept = []; while (kept.length < ${most}) kept.push(new Uint8Array(1 << 20).fill(1)); return kept.length`;
  assert.equal((await run(hoard("Infinity"), { memoryLimit: 32 })).success, false);
  assert.equal((await run(hoard(4), { memoryLimit: 32 })).result, 4);
});

test("context_keeps_globals_and_its_bindings_after_a_lost_isolate", async () => {
  const bindings = { external_one: { name: "external_one", description: "", inputSchema: {}, execute: async () => 1 } };
  const context = await driver.createContext({ bindings, timeout: 300 });
  try {
    await context.execute("globalThis.kept = 1");
    assert.equal((await context.execute("return kept + await external_one()")).value, 2);
    assert.equal((await context.execute("for (;;);")).success, false);
    assert.equal((await context.execute("return await external_one()")).value, 1);
  } finally {
    await context.dispose();
  }
});
