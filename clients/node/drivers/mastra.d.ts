import type { SandboxOptions } from "../index.js";

/** A `CodeModeTransport` of `@mastra/core`: `createCodeMode({ tools }, new StockadeTransport())`. */
export class StockadeTransport {
  readonly requiresSandbox: false;
  /** `timeout` comes from the configuration of code mode. */
  constructor(options?: Omit<SandboxOptions, "timeout">);
  run(options: {
    program: string;
    toolIds: string[];
    dispatch: (tool: string, args: unknown) => Promise<unknown>;
    timeout: number;
    abortSignal?: AbortSignal;
    onExternalCall?: (tool: string, args: unknown) => void;
    onExternalResult?: (tool: string, durationMs: number, error?: unknown) => void;
  }): Promise<{
    success: boolean;
    result?: unknown;
    logs?: string[];
    error?: { message: string; name?: string; line?: number };
  }>;
}
