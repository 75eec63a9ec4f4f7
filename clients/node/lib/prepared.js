// Sessions for drivers: code of the driver runs first and sets globals, so that the guest's own code keeps its lines.

import { Session } from "./sandbox.js";

/**
 * Runs code of a driver and then the guest's code in the same isolate, and returns the outcome of the second.
 * @param {import("../index.js").SandboxOptions} options
 * @param {string} prelude sets globals; is trusted
 * @param {string} code the guest's
 * @param {import("../index.js").RunOptions} run
 */
export async function runPrepared(options, prelude, code, run) {
  const session = new Session(options);
  try {
    const prepared = await session.run(prelude, { signal: run?.signal });
    return prepared.error ? prepared : await session.run(code, run);
  } finally {
    await session.close();
  }
}

/** A prelude that makes tools available as global functions: `{external_search: "search"}` calls `tools.search`. */
export const globalFunctions = (names) =>
  `for (const [name, tool] of Object.entries(${JSON.stringify(names)})) globalThis[name] = (input) => tools[tool](input);`;

/** The console as lines of text, with a prefix for each level. */
export const logs = (outcome, prefixes = {}) => outcome.console.map(({ level, text }) => `${prefixes[level] ?? ""}${text}`);
