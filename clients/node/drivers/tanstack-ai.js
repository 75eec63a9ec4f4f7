// An isolate driver for TanStack's `@tanstack/ai-code-mode`.

import { globalFunctions, logs } from "../lib/prepared.js";
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
      const session = new Session({ ...options, timeout, memory: `${memoryLimit}mb`, tools: { ...options.tools, ...tools } });
      const names = Object.fromEntries(Object.keys(bindings).map((name) => [name, name]));
      let prepared = false;
      return {
        async execute(code) {
          let outcome = prepared ? {} : await session.run(globalFunctions(names));
          if (!outcome.error) {
            outcome = await session.run(code);
            // A session that exceeded a limit goes on with another isolate, which has to be prepared.
            prepared = !outcome.stateLost;
          }
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
