// An isolate driver for TanStack's `@tanstack/ai-code-mode`.

import { globalFunctions, logs, preludes } from "../lib/prepared.js";
import { Session } from "../lib/sandbox.js";

const PREFIXES = { warn: "WARN: ", error: "ERROR: ", info: "INFO: " };

/** @param {import("../index.js").SandboxOptions} options of the sandboxes; `timeout` and `memory` come from the configuration of code mode */
export function createStockadeDriver(options = {}) {
  return {
    async createContext({ bindings, timeout = 30_000, memoryLimit = 128 }) {
      const tools = Object.fromEntries(
        Object.entries(bindings).map(([name, { execute, description, inputSchema, outputSchema }]) => {
          return [name, { call: (input) => execute(input), description, inputSchema, outputSchema }];
        }),
      );
      const names = Object.fromEntries(Object.keys(bindings).map((name) => [name, name]));
      // A session that exceeded a limit goes on with another isolate, in which the prelude runs again.
      const prelude = preludes(options.prelude, globalFunctions(names));
      const session = new Session({ ...options, prelude, timeout, memory: `${memoryLimit}mb`, tools: { ...options.tools, ...tools } });
      return {
        async execute(code) {
          const outcome = await session.run(code);
          if (!outcome.error) return { success: true, value: outcome.result, logs: logs(outcome, PREFIXES) };
          const { name, message, stack, kind, code: of } = outcome.error;
          return { success: false, error: { name, message, stack, code: String(of ?? kind) }, logs: logs(outcome, PREFIXES) };
        },
        async dispose() {
          await session.close();
        },
      };
    },
  };
}
