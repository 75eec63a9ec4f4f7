// The tool in `generateText` of the AI SDK, with its own mock of a model, which writes the code.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { generateText, isStepCount, jsonSchema, tool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { codeTool } from "stockade/drivers/ai-sdk";
import { z } from "zod";

const tools = {
  add: tool({ description: "adds", inputSchema: z.object({ a: z.number(), b: z.number() }), execute: ({ a, b }) => a + b }),
  shout: tool({
    description: "shouts",
    inputSchema: jsonSchema({ type: "object", properties: { text: { type: "string" } } }, {
      validate: (value) => (typeof value.text === "string" ? { success: true, value } : { success: false, error: new Error("no text") }),
    }),
    execute: ({ text }) => text.toUpperCase(),
  }),
};
const runCode = codeTool({ tools, program: process.env.STOCKADE });
after(() => runCode.close());

/** What the tool answers to a model that writes this code, and what the model got to know of the tool. */
async function answer(code) {
  const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } };
  const replies = [
    { content: [{ type: "tool-call", toolCallId: "1", toolName: "runCode", input: JSON.stringify({ code }) }], finishReason: { unified: "tool-calls" }, usage, warnings: [] },
    { content: [{ type: "text", text: "done" }], finishReason: { unified: "stop" }, usage, warnings: [] },
  ];
  const model = new MockLanguageModelV4({ doGenerate: async () => replies.shift() });
  const { steps, text } = await generateText({ model, prompt: "compute", tools: { runCode }, stopWhen: isStepCount(2) });
  assert.equal(text, "done");
  return { output: steps[0].toolResults[0].output, offered: model.doGenerateCalls[0].tools[0] };
}

test("model_runs_code_that_calls_tools", async () => {
  const { output, offered } = await answer("const sum: number = await tools.add({ a: 1, b: 2 });\nconsole.log(sum);\nreturn await tools.shout({ text: `sum ${sum}` })");
  assert.deepEqual(output, { result: "SUM 3", error: undefined, logs: ["3"] });
  assert.deepEqual(offered.inputSchema.required, ["code"]);
  assert.match(offered.description, /tools\["add"\]\(input\): adds\n {2}input: .*"a":\{"type":"number"\}/);
});

test("errors_reach_the_model_with_the_line", async () => {
  const { output } = await answer("const a = 1;\nthrow new Error('no');");
  assert.deepEqual([output.error.kind, output.error.message, output.error.line], ["thrown", "no", 2]);
  assert.match((await answer("return await tools.add({ a: 'x', b: 2 })")).output.error.message, /invalid input: a/);
  assert.match((await answer("return await tools.shout({})")).output.error.message, /no text/);
});

test("tool_without_execute_is_refused", () => {
  assert.throws(() => codeTool({ tools: { ask: { description: "asks a person" } } }), /no function 'execute'/);
});
