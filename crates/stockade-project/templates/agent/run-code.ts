/// <reference path="./types/host.d.ts" />

/** A function of the host that code of a model may call. */
export type Tool = (input: any) => unknown;

/** What code gave, and what it printed. */
export interface Ran {
  result?: unknown;
  error?: string;
  console: string[];
}

/** Lines of the console that are kept of one run. */
const MOST_LINES = 1000;

const sandbox = new V8Sandbox({ isolation: "container", memoryLimitMb: 64, cpuLimitMs: 1000, wallLimitMs: 30_000 });
const tools = Deno.readTextFileSync(new URL("./guest/tools.ts", import.meta.url));

/**
 * Runs code that a language model wrote, in a container of its own that ends with it. The code is the body of an
 * asynchronous function: it calls `tools.NAME(input)` and returns a value.
 */
export async function runCode(code: string, offered: Record<string, Tool>): Promise<Ran> {
  const printed: string[] = [];
  const isolate = await sandbox.createIsolate({ name: "agent", console: "event", modules: { "main.ts": tools } });
  try {
    isolate.onSystem("console", ({ text }) => {
      if (printed.length < MOST_LINES) printed.push(text);
    });
    isolate.onRequest("tool", ({ name, input }: { name: string; input: unknown }) => {
      if (!Object.hasOwn(offered, name)) throw new Error(`there is no tool '${name}'`);
      return offered[name](input);
    });
    await isolate.ready;
    const result = await isolate.evaluate(`(async (tools) => {\n${code}\n})(globalThis.tools)`);
    return { result, console: printed };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error), console: printed };
  } finally {
    isolate.destroy();
  }
}

/** Ends all that runs. */
export const end = (): void => sandbox.shutdown();
