import type { SandboxOptions } from "../index.js";

interface Binding {
  name: string;
  description: string;
  inputSchema: Record<string, unknown>;
  outputSchema?: Record<string, unknown> | undefined;
  execute: (args: unknown) => Promise<unknown>;
}

interface ExecutionResult<T> {
  success: boolean;
  value?: T;
  error?: { name: string; message: string; stack?: string; code?: string };
  logs?: string[];
}

/** An `IsolateDriver` of `@tanstack/ai-code-mode`. `timeout` and `memory` come from the configuration of code mode. */
export function createStockadeDriver(options?: Omit<SandboxOptions, "timeout" | "memory">): {
  createContext(config: { bindings: Record<string, Binding>; timeout?: number; memoryLimit?: number }): Promise<{
    execute<T = unknown>(code: string): Promise<ExecutionResult<T>>;
    dispose(): Promise<void>;
  }>;
};
