// An executor for Cloudflare's `@cloudflare/codemode`: its code runs in a sandbox of Stockade instead of a Dynamic Worker.

import { logs, runPrepared } from "../lib/prepared.js";

const IDENTIFIER = /^[a-zA-Z_$][a-zA-Z0-9_$]*$/;
/** Globals that the code needs, which no provider may replace. */
const RESERVED = new Set(["tools", "console", "globalThis", "Promise", "Error", "Proxy", "Object", "JSON", "setTimeout"]);
const PREFIXES = { warn: "[warn] ", error: "[error] " };
/** Words that codemode's types write with an underscore behind them. */
const KEYWORDS = new Set(
  ("abstract arguments await boolean break byte case catch char class const continue debugger default delete do double else " +
    "enum eval export extends false final finally float for function goto if implements import in instanceof int interface " +
    "let long native new null package private protected public return short static super switch synchronized this throw " +
    "throws transient true try typeof undefined var void volatile while with yield").split(" "),
);

/** The name that codemode's types give to a tool. */
function sanitized(name) {
  const word = name.replace(/[-.\s]/g, "_").replace(/[^a-zA-Z0-9_$]/g, "") || "_";
  const identifier = /^[0-9]/.test(word) ? `_${word}` : word;
  return KEYWORDS.has(identifier) ? `${identifier}_` : identifier;
}

/** Defines `codemode.search(…)` for each provider, in the guest. A provider is one tool, which gets the name and the arguments. */
const namespaces = (providers) => `
for (const provider of ${JSON.stringify(providers.map(({ name }) => name))}) {
  globalThis[provider] = new Proxy({}, {
    get(target, name) {
      if (Object.hasOwn(target, name)) return target[name];
      if (typeof name !== "string" || name === "then") return undefined;
      return (...args) => tools[provider]({ name, args });
    },
  });
}
${providers.map(({ prelude }) => (prelude ? `{\n${prelude}\n}` : "")).join("\n")}`;

/** The functions of a provider by the names that the code uses, or a text with what is wrong. */
function functions({ name, fns }) {
  const found = new Map();
  for (const [given, call] of Object.entries(fns)) {
    const used = sanitized(given);
    if (found.has(used)) return `Tool names of provider "${name}" collide: "${given}" and another are both "${used}"`;
    found.set(used, call);
  }
  return found;
}

export class StockadeExecutor {
  #options;

  /** @param {import("../index.js").SandboxOptions} options of the sandboxes; `timeout` is 60 s unless given, as codemode has it */
  constructor(options = {}) {
    this.#options = { timeout: "60s", ...options };
  }

  /** Runs code, with the functions of the providers as `NAME.function()`. Never throws. */
  async execute(code, providersOrFns, { connectors } = {}) {
    const providers = Array.isArray(providersOrFns) ? providersOrFns : [{ name: "codemode", fns: providersOrFns }];
    const failed = (error, outcome) => ({ result: undefined, error, logs: outcome ? logs(outcome, PREFIXES) : [] });
    if (connectors?.length) return failed("connectors need the runtime of Cloudflare Workers; give their functions as a provider");
    const tools = { ...this.#options.tools };
    for (const provider of providers) {
      const { name } = provider;
      if (!IDENTIFIER.test(name)) return failed(`Provider name "${name}" is not a valid JavaScript identifier`);
      if (RESERVED.has(name)) return failed(`Provider name "${name}" is reserved`);
      if (Object.hasOwn(tools, name)) return failed(`Duplicate provider name "${name}"`);
      const found = functions(provider);
      if (typeof found === "string") return failed(found);
      tools[name] = ({ name: called, args }) => {
        if (!found.has(called)) throw new Error(`Tool "${called}" not found`);
        return found.get(called)(...args);
      };
    }
    try {
      const outcome = await runPrepared({ ...this.#options, tools }, namespaces(providers), code);
      if (outcome.error) return failed(outcome.error.message, outcome);
      return { result: outcome.result, logs: logs(outcome, PREFIXES) };
    } catch (error) {
      return failed(error.message);
    }
  }
}
