import type { SandboxOptions } from "../index.js";

/** Tools of the AI SDK that have `execute`. */
export type AiTools = Record<string, { description?: unknown; inputSchema?: unknown; execute?: (input: any, options: any) => unknown }>;

export interface CodeToolResult {
  result?: unknown;
  error?: { kind: string; name: string; message: string; line?: number; column?: number };
  logs: string[];
}

/** A tool for `generateText({ tools: { runCode: codeTool({ tools }) } })`. Close it when it is no longer needed. */
export function codeTool(
  options?: Omit<SandboxOptions, "tools"> & {
    /** What the code can call as `tools.NAME(input)`. */
    tools?: AiTools;
    /** Replaces the first sentences of the description; the list of tools follows it. */
    description?: string;
  },
): {
  description: string;
  inputSchema: any;
  execute(input: { code: string }, options?: any): Promise<CodeToolResult>;
  close(): Promise<void>;
};
