// A tool for the AI SDK (`ai`): the model writes code that calls the other tools, and the code runs in a sandbox.

import { logs } from "../lib/prepared.js";
import { Sandbox } from "../lib/sandbox.js";
import { jsonSchema } from "../lib/tools.js";

const DESCRIPTION = `Runs TypeScript in a sandbox without network and files, and returns its result, errors and console.
The code has top-level await. Its result is the value of a top-level \`return\`, or of its last expression, and has to be JSON.`;

/** The schema of the tool's input, in the interfaces Standard Schema and Standard JSON Schema. */
const INPUT = {
  "~standard": {
    version: 1,
    vendor: "stockade",
    validate: (value) =>
      typeof value?.code === "string" ? { value: { code: value.code } } : { issues: [{ message: "expected a string", path: ["code"] }] },
    jsonSchema: {
      input: () => ({
        type: "object",
        properties: { code: { type: "string", description: "The code to run" } },
        required: ["code"],
        additionalProperties: false,
      }),
    },
  },
};

/** The schema of a tool as Stockade takes it. The AI SDK's own `jsonSchema()` has the fields `jsonSchema` and `validate`. */
function schema(given) {
  if (!given || given["~standard"] || !("jsonSchema" in given)) return given;
  const validate = async (value) => {
    const checked = given.validate ? await given.validate(value) : { success: true, value };
    return checked.success ? { value: checked.value } : { issues: [{ message: checked.error.message }] };
  };
  return { "~standard": { version: 1, vendor: "ai-sdk", validate, jsonSchema: { input: () => given.jsonSchema } } };
}

/** A description, unless it depends on the context of a call, which code does not have. */
const text = (description) => (typeof description === "string" ? description : "");

/** What the model reads about the tools that its code can call. */
function described(tools) {
  const lines = Object.entries(tools).map(([name, { description, inputSchema }]) => {
    const input = jsonSchema(schema(inputSchema), "input") ?? {};
    return `- await tools[${JSON.stringify(name)}](input): ${text(description)}\n  input: ${JSON.stringify(input)}`;
  });
  return lines.length ? `\nThe code can call these functions:\n${lines.join("\n")}` : "";
}

/**
 * A tool that runs code. Its answer is `{result, error, logs}`.
 * @param {import("../index.js").SandboxOptions & {tools?: import("./ai-sdk.js").AiTools, description?: string}} options
 */
export function codeTool({ tools = {}, description = DESCRIPTION, ...options } = {}) {
  for (const [name, { execute }] of Object.entries(tools)) {
    if (typeof execute !== "function") throw new TypeError(`the tool '${name}' has no function 'execute', so code cannot call it`);
  }
  const sandbox = new Sandbox(options);
  return {
    description: description + described(tools),
    inputSchema: INPUT,
    async execute({ code }, { abortSignal, ...context } = {}) {
      const bound = Object.entries(tools).map(([name, { execute, description, inputSchema }]) => {
        const call = (input, { signal }) => execute(input, { ...context, abortSignal: signal });
        return [name, { call, description: text(description), inputSchema: schema(inputSchema) }];
      });
      const outcome = await sandbox.run(code, { tools: Object.fromEntries(bound), signal: abortSignal });
      const { kind, name, message, line, column } = outcome.error ?? {};
      return { result: outcome.result, error: outcome.error && { kind, name, message, line, column }, logs: logs(outcome) };
    },
    close: () => sandbox.close(),
  };
}
