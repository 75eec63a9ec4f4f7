// Functions of the host that a guest calls as `tools.NAME(input)`.

/**
 * What a supervisor needs to know of tools, and how to call them.
 * @param {Record<string, Function | {call: Function, description?: string, inputSchema?: object, outputSchema?: object}>} given
 */
export class Tools {
  #calls = new Map();
  /** Descriptions by name, as the protocol has them. */
  described = {};

  constructor(given = {}) {
    for (const [name, tool] of Object.entries(given)) {
      const { call, description, inputSchema, outputSchema } = typeof tool === "function" ? { call: tool } : (tool ?? {});
      if (typeof call !== "function") {
        throw new TypeError(`the tool '${name}' is neither a function nor an object with a function 'call'`);
      }
      this.#calls.set(name, { call, check: checker(inputSchema) });
      Object.defineProperty(this.described, name, {
        value: { description, inputSchema: jsonSchema(inputSchema, "input"), outputSchema: jsonSchema(outputSchema, "output") },
        enumerable: true,
      });
    }
  }

  get names() {
    return this.#calls.keys();
  }

  has(name) {
    return this.#calls.has(name);
  }

  /** Calls a tool with input that it accepts. What it throws goes to the guest. */
  async call(name, input, context) {
    const tool = this.#calls.get(name);
    if (!tool) throw new Error(`no tool '${name}'`);
    return tool.call(tool.check ? await tool.check(input) : input, context);
  }
}

/** A JSON Schema, from one, from an object that has `toJSONSchema()`, or from a Standard Schema that has a JSON Schema. */
export function jsonSchema(schema, side) {
  if (schema === undefined || schema === null) return undefined;
  const standard = schema["~standard"]?.jsonSchema?.[side];
  // Not each type of a schema can be stated as JSON Schema: such a schema still checks input.
  try {
    if (typeof standard === "function") return standard({ target: "draft-2020-12" });
    if (typeof schema.toJSONSchema === "function") return schema.toJSONSchema();
  } catch {
    return undefined;
  }
  return schema["~standard"] ? undefined : schema;
}

/** Checks and converts input, for a schema that can: one with the interface of Standard Schema, as zod's. */
function checker(schema) {
  const validate = schema?.["~standard"]?.validate;
  if (typeof validate !== "function") return null;
  return async (input) => {
    const { issues, value } = await validate(input);
    if (!issues) return value;
    const listed = issues.slice(0, 5).map(({ message, path }) => {
      const place = (path ?? []).map((step) => step?.key ?? step).join(".");
      return place ? `${place}: ${message}` : message;
    });
    throw new TypeError(`invalid input: ${listed.join("; ")}`);
  };
}
