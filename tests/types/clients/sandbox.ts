// What programs write with the package `stockade`, and what the declarations refuse.

import { GuestError, Sandbox, Session, StockadeError, program, type Outcome, type Tool } from "stockade";
import { codeTool } from "stockade/drivers/ai-sdk";
import { StockadeExecutor } from "stockade/drivers/codemode";
import ivm from "stockade/drivers/isolated-vm";
import { StockadeTransport } from "stockade/drivers/mastra";
import { createStockadeDriver } from "stockade/drivers/tanstack-ai";

const search: Tool = {
  description: "Searches",
  inputSchema: { type: "object", properties: { q: { type: "string" } } },
  call: async ({ q }: { q: string }, { signal }) => (signal.aborted ? [] : [q]),
};

await using sandbox = new Sandbox({
  level: "container", memory: "64mb", cpu: 500, timeout: "2s", output: 1_000_000, pool: 2, env: { list: [1, { a: null }] },
  files: { "a.ts": "export const a = 1", "b.bin": new Uint8Array(4) }, fetch: ["api.example.com"],
  grants: { FILES: { files: { path: "/srv" } } }, tools: { search, twice: (n: number) => n * 2 }, program: program(),
});
const run = sandbox.run<number>("1", { signal: AbortSignal.timeout(5), onConsole: ({ level, text }) => void `${level} ${text}` });
for await (const { level, text } of run.console) level satisfies "debug" | "info" | "warn" | "error", text.trim();
const outcome: Outcome<number> = await run;
outcome.result?.toFixed();
if (outcome.error instanceof GuestError && outcome.error.kind === "thrown") outcome.error.line?.toFixed();
outcome.refused.map(({ host, port, reason }) => `${host}:${port} ${reason}`);
run.cancel();

const session: Session = sandbox.session({ env: { b: "c" } });
await session.run("1", { timeout: 100 }).catch((error) => error instanceof StockadeError && error.fix?.trim());
await session.close();

// @ts-expect-error no such level
new Sandbox({ level: "vm" });
// @ts-expect-error a misspelt option
new Sandbox({ memroy: "64mb" });
// @ts-expect-error the level is the sandbox's
sandbox.run("1", { level: "thread" });
// @ts-expect-error code is text
sandbox.run(1);
// @ts-expect-error a value that is not JSON
sandbox.run("1", { env: { a: () => 1 } });

const result = await new StockadeExecutor({ level: "process" }).execute("async () => 1", [{ name: "codemode", fns: {} }]);
result.error?.trim();
const context = await createStockadeDriver().createContext({ bindings: {}, memoryLimit: 64 });
(await context.execute<number>("1")).value?.toFixed();
new StockadeTransport().requiresSandbox satisfies false;
(await codeTool({ tools: {} }).execute({ code: "1" })).logs.join();
const isolate = new ivm.Isolate({ memoryLimit: 64, stockade: { level: "process" } });
const jail = (await isolate.createContext()).global;
await jail.set("global", jail.derefInto());
// @ts-expect-error contexts come from isolates
new ivm.Context();
