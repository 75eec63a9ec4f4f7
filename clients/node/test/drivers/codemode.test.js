// The executor under `@cloudflare/codemode`, by the entries of that package that run outside of Workers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createBrowserCodeTool } from "@cloudflare/codemode/browser";
import { createCodeTool } from "@cloudflare/codemode/tanstack-ai";
import { toolDefinition } from "@tanstack/ai";
import { StockadeExecutor } from "stockade/drivers/codemode";
import { z } from "zod";

const executor = new StockadeExecutor({ program: process.env.STOCKADE });

test("code_tool_runs_code_that_calls_tools", async () => {
  const tools = {
    "get-weather": {
      description: "The weather of a city",
      inputSchema: { type: "object", properties: { city: { type: "string" } } },
      execute: async ({ city }) => ({ city, degrees: city.length }),
    },
  };
  const tool = createBrowserCodeTool({ tools, executor });
  assert.match(tool.description, /get_weather/);
  const code = `async () => {
    console.log("asking"); console.warn("slow");
    const all = await Promise.all(["Rome", "Berlin"].map((city) => codemode.get_weather({ city })));
    return all.map(({ degrees }) => degrees);
  }`;
  assert.deepEqual(await tool.execute({ code }), { result: [4, 6], logs: ["asking", "[warn] slow"] });
  await assert.rejects(tool.execute({ code: "async () => { console.log(1); throw new Error('no'); }" }), /Code execution failed: no\n\nConsole output:\n1/);
});

test("tools_of_tanstack_ai_are_validated_and_called", async () => {
  const add = toolDefinition({ name: "add", description: "adds", inputSchema: z.object({ a: z.number(), b: z.number() }) });
  const { execute } = createCodeTool({ tools: [{ tools: { add: add.server(({ a, b }) => a + b) } }], executor });
  assert.deepEqual(await execute({ code: "async () => codemode.add({ a: 1, b: 2 })" }, {}), { result: 3 });
});

test("providers_are_namespaces_with_preludes", async () => {
  const providers = [
    { name: "db", fns: { query: async (sql, limit) => [sql, limit] }, prelude: "db.first = async (sql) => (await db.query(sql, 1))[0];" },
    { name: "mail", fns: { "send.now": async () => "sent", delete: async () => "gone" } },
  ];
  const code = "async () => [await db.query('select', 5), await db.first('x'), await mail.send_now(), await mail.delete_()]";
  assert.deepEqual(await executor.execute(code, providers), { result: [["select", 5], "x", "sent", "gone"], logs: [] });
});

test("failures_are_in_the_result", async () => {
  const failing = { name: "codemode", fns: { fail: async () => { throw new Error("broken"); } } };
  const errors = async (code, providers = [failing]) => (await executor.execute(code, providers)).error;
  assert.equal(await errors("async () => codemode.fail()"), "broken");
  assert.equal(await errors("async () => codemode.other()"), 'Tool "other" not found');
  assert.match(await errors("async () => fetch('https://example.com')"), /not allowed|granted/);
  assert.match(await errors("1", [{ name: "a b", fns: {} }]), /not a valid JavaScript identifier/);
  assert.match(await errors("1", [failing, failing]), /Duplicate provider/);
  assert.match(await errors("1", [{ name: "tools", fns: {} }]), /reserved/);
  assert.match(await errors("1", [{ name: "a", fns: { "x-y": async () => 1, x_y: async () => 2 } }]), /collide/);
});

test("executions_share_nothing", async () => {
  await executor.execute("async () => { globalThis.left = 1; }", []);
  assert.deepEqual(await executor.execute("async () => typeof left", []), { result: "undefined", logs: [] });
});

test("endless_loop_ends_at_the_timeout", async () => {
  const quick = new StockadeExecutor({ program: process.env.STOCKADE, timeout: "500ms" });
  assert.ok((await quick.execute("async () => { for (;;); }", [])).error);
  assert.equal((await quick.execute("async () => 1", [])).result, 1);
});
