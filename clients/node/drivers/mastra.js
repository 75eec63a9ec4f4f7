// A transport for the code mode of `@mastra/core`: its programs run in a sandbox of Stockade, without a workspace.

import { globalFunctions, logs, runPrepared } from "../lib/prepared.js";

/** The name that Mastra's instructions give to a tool. */
const sanitized = (id) => id.replace(/[^A-Za-z0-9_$]/g, "_").replace(/^(?![A-Za-z_$])/, "_");

export class StockadeTransport {
  requiresSandbox = false;
  #options;

  /** @param {import("../index.js").SandboxOptions} options of the sandboxes; `timeout` comes from the configuration of code mode */
  constructor(options = {}) {
    this.#options = options;
  }

  async run({ program, toolIds, dispatch, timeout, abortSignal, onExternalCall, onExternalResult }) {
    const call = async (id, input) => {
      const begun = Date.now();
      onExternalCall?.(id, input);
      try {
        const result = await dispatch(id, input);
        onExternalResult?.(id, Date.now() - begun);
        return result;
      } catch (error) {
        onExternalResult?.(id, Date.now() - begun, error);
        throw error;
      }
    };
    const tools = Object.fromEntries(toolIds.map((id) => [id, (input) => call(id, input)]));
    const options = { ...this.#options, timeout, tools: { ...this.#options.tools, ...tools } };
    const names = Object.fromEntries(toolIds.map((id) => [`external_${sanitized(id)}`, id]));
    const outcome = await runPrepared(options, globalFunctions(names), program, { signal: abortSignal });
    if (!outcome.error) return { success: true, result: outcome.result, logs: logs(outcome) };
    const { name, message, line } = outcome.error;
    return { success: false, error: { name, message, line }, logs: logs(outcome) };
  }
}
