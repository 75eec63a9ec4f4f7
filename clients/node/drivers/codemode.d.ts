import type { SandboxOptions } from "../index.js";

interface Provider {
  name: string;
  fns: Record<string, (...args: unknown[]) => Promise<unknown>>;
  /** JavaScript that runs in the guest before the code. */
  prelude?: string;
}

/** An `Executor` of `@cloudflare/codemode`. Each execution has an isolate of its own. Arguments and results are JSON. */
export class StockadeExecutor {
  /** `timeout` is 60 s unless given, as codemode has it. */
  constructor(options?: SandboxOptions);
  execute(
    code: string,
    providersOrFns: Provider[] | Record<string, (...args: unknown[]) => Promise<unknown>>,
    options?: { connectors?: unknown[] },
  ): Promise<{ result: unknown; error?: string; logs?: string[] }>;
}
