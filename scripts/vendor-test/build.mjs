// Bundles the assertions of `stockade test` into crates/stockade-project/test-library/expect.js: `expect` of Vitest,
// `assert` of Chai, and the diff of Vitest.
//
//   cd scripts/vendor-test && npm ci --ignore-scripts && node build.mjs
//
// The licences of all packages stand in LICENSES.txt in the same folder.

import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const OUT = join(here, "../../crates/stockade-project/test-library");

const contents = `
  import {
    ASYMMETRIC_MATCHERS_OBJECT, JestAsymmetricMatchers, JestChaiExpect, JestExtend, chai,
  } from "@vitest/expect";
  import { diff } from "@vitest/utils/diff";
  for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);
  export const expect = (value, message) => chai.expect(value, message);
  Object.assign(expect, chai.expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);
  export const assert = chai.assert;
  export const difference = (expected, actual) => diff(expected, actual)?.replace(/\\x1b\\[[0-9;]*m/g, "");
`;

const result = await build({
  stdin: { contents, resolveDir: here, loader: "js" },
  bundle: true,
  write: false,
  metafile: true,
  format: "esm",
  platform: "browser",
  target: "esnext",
  charset: "ascii",
  legalComments: "none",
  // Names of functions stay: messages have them.
  minifyWhitespace: true,
  minifySyntax: true,
  logLevel: "error",
});
const packages = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
const header = "// Made by scripts/vendor-test/build.mjs. LICENSES.txt has the licences.\n";
writeFileSync(join(OUT, "expect.js"), header + result.outputFiles[0].text);

const licences = [...packages].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `Licence: ${license}`;
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(join(OUT, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
