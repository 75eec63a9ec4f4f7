// The blocks of docs/clients.md run, and print what their comments say.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const page = readFileSync(fileURLToPath(new URL("../../docs/clients.md", import.meta.resolve("stockade"))), "utf8");
/** Sections whose blocks need a model, or tools of the reader. */
const INCOMPLETE = ["Cloudflare codemode", "TanStack AI", "AI SDK", "Mastra"];
const OWN = `import { Sandbox } from "stockade"; const sandbox = new Sandbox();`;

for (const section of page.split(/^##+ /m).slice(1)) {
  const [title] = section.split("\n");
  if (INCOMPLETE.includes(title)) continue;
  for (const [, source] of section.matchAll(/^```js\n(.*?)^```/gms)) {
    test(`${title}: ${source.split("\n").find((line) => line && !line.startsWith("import"))}`, () => {
      const program = /new Sandbox|isolated-vm/.test(source) ? source : `${OWN}\n${source}`;
      const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { cwd: import.meta.dirname, encoding: "utf8" });
      assert.equal(status, 0, stderr);
      const printed = [...source.matchAll(/^ *console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) => text);
      assert.deepEqual(stdout.trim().split("\n").filter((line) => printed.includes(line)), printed, stdout);
    });
  }
}
