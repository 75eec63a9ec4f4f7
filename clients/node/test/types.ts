// What the types of the client allow and refuse, for `tsc --strict`.

import { GuestError, type Outcome, Sandbox, type SandboxOptions, Session, StockadeError } from "stockade";

const options: SandboxOptions = { level: "process", memory: "64mb", cpu: 500, prelude: "globalThis.a = 1", pool: 0, tools: { add: ({ a, b }) => a + b } };

export async function allowed() {
  await using sandbox = new Sandbox(options);
  const run = sandbox.run<number>("1", { fetch: ["api.example.com"], files: { "a.bin": new Uint8Array(1) }, signal: AbortSignal.timeout(1) });
  for await (const { level, text } of run.console) console[level](text);
  const outcome: Outcome<number> = await run;
  const result: number | undefined = outcome.result;
  const error: GuestError | undefined = outcome.error;
  const code: string | undefined = error?.code;
  if (error?.kind === "prelude_failed" || error?.kind === "a later one") run.cancel();
  const session: Session = sandbox.session({ prelude: "1" });
  await session.run("1", { timeout: "1s", onConsole: ({ text }) => text.length });
  await run.catch((reason: unknown) => reason instanceof StockadeError && reason.kind);
  return [result, code];
}

export function refused(sandbox: Sandbox) {
  // @ts-expect-error a misspelt option
  new Sandbox({ memroy: "64mb" });
  // @ts-expect-error a level that is none
  new Sandbox({ level: "vm" });
  // @ts-expect-error code is text
  sandbox.run(1);
  // @ts-expect-error files are text or bytes
  sandbox.run("1", { files: { a: 1 } });
  // @ts-expect-error the environment is JSON
  sandbox.run("1", { env: { a: () => 1 } });
  // @ts-expect-error a prelude belongs to the sandbox
  sandbox.run("1", { prelude: "1" });
  // @ts-expect-error an outcome is not its result
  sandbox.run<number>("1").then((outcome) => outcome + 1);
  // @ts-expect-error what a tool is called with is a function
  sandbox.run("1", { tools: { a: 5 } });
}
