// What drivers share: code of theirs that runs before the guest's, which keeps its lines, and the console as text.

import { Sandbox } from "./sandbox.js";

/** The prelude of a driver, after that of the driver's user. */
export const preludes = (...all) => all.filter(Boolean).join("\n");

/**
 * Runs a guest's code after code of a driver, and returns the outcome.
 * @param {import("../index.js").SandboxOptions} options
 * @param {string} prelude sets globals; is trusted
 * @param {string} code the guest's
 * @param {import("../index.js").RunOptions} run
 */
export async function runPrepared(options, prelude, code, run) {
  // There is one run: no isolate is kept ready for another.
  const sandbox = new Sandbox({ pool: 0, ...options, prelude: preludes(options.prelude, prelude) });
  try {
    return await sandbox.run(code, run);
  } finally {
    await sandbox.close();
  }
}

/** A prelude that makes tools available as global functions: `{external_search: "search"}` calls `tools.search`. */
export const globalFunctions = (names) =>
  `for (const [name, tool] of Object.entries(${JSON.stringify(names)})) globalThis[name] = (input) => tools[tool](input);`;

/** The console as lines of text, with a prefix for each level. */
export const logs = (outcome, prefixes = {}) => outcome.console.map(({ level, text }) => `${prefixes[level] ?? ""}${text}`);
