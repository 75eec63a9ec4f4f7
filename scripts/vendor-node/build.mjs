// Bundles npm packages into crates/stockade-realm/js/node/vendor: what the `node:` modules of guests are made of.
//
//   cd scripts/vendor-node && npm ci --ignore-scripts && node build.mjs
//
// Each file is one package with those that it needs, unchanged except for the imports of modules that guests have
// built in. The licences of all packages stand in LICENSES.txt in the same folder.

import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const OUT = join(here, "../../crates/stockade-realm/js/node/vendor");

// name of the file: what it holds
const BUNDLES = {
  assert: `module.exports = require("assert/build/assert.js")`,
  buffer: `module.exports = require("buffer/")`,
  events: `module.exports = require("events/")`,
  hashes: `
    import { md5, ripemd160, sha1 } from "@noble/hashes/legacy.js";
    import { sha224, sha256, sha384, sha512 } from "@noble/hashes/sha2.js";
    import { hmac } from "@noble/hashes/hmac.js";
    import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
    export default { md5, ripemd160, sha1, sha224, sha256, sha384, sha512, hmac, pbkdf2 };`,
  inflate: `
    import { deflateSync, gunzipSync, gzipSync, inflateSync, unzlibSync, zlibSync } from "fflate";
    export default { deflateSync, gunzipSync, gzipSync, inflateSync, unzlibSync, zlibSync };`,
  path: `module.exports = require("path-browserify")`,
  querystring: `module.exports = require("querystring/")`,
  stream: `module.exports = require("readable-stream/lib/ours/browser.js")`,
  string_decoder: `module.exports = require("string_decoder/")`,
  util: `module.exports = require("util/")`,
};

// Modules that are imported from the guest's own, and not bundled.
const BUILT_IN = ["buffer", "events", "process", "string_decoder", "util"];

const globals = { name: "globals", setup(b) {
  b.onResolve({ filter: /^abort-controller$/ }, () => ({ path: "abort-controller", namespace: "globals" }));
  b.onLoad({ filter: /.*/, namespace: "globals" }, () => ({
    contents: "module.exports = { AbortController: globalThis.AbortController, AbortSignal: globalThis.AbortSignal }",
  }));
} };

const packages = new Set();
for (const [name, contents] of Object.entries(BUNDLES)) {
  const external = new Set();
  const builtIn = { name: "built-in", setup(b) {
    b.onResolve({ filter: /^[a-z_]+\/?$/ }, ({ path, importer }) => {
      const plain = path.replace(/\/$/, "");
      // The entry itself names a package by its name and a slash.
      if (importer === "<stdin>" || !BUILT_IN.includes(plain)) return undefined;
      external.add(plain);
      return { path: plain, external: true };
    });
  } };
  const result = await build({
    stdin: { contents, resolveDir: here, loader: "js" },
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    alias: { inherits: "inherits/inherits_browser.js" },
    target: "esnext",
    charset: "ascii",
    legalComments: "none",
    define: { global: "globalThis", "process.env.NODE_DEBUG": "undefined", "process.env.READABLE_STREAM": "undefined" },
    plugins: [globals, builtIn],
    logLevel: "error",
  });
  for (const input of Object.keys(result.metafile.inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  const names = [...external].sort();
  const imports = names.map((module) => `import ${module} from "node:${module}";\n`).join("");
  const table = names.length === 0 ? "" : `const modules = { ${names.join(", ")} };\nconst require = (name) => modules[name];\n`;
  const head = `// Made by scripts/vendor-node/build.mjs: see LICENSES.txt.\n`;
  writeFileSync(join(OUT, `${name}.js`), head + imports + table + result.outputFiles[0].text);
}

const licences = [...packages].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((file) => /^(licen[cs]e|copying)/i.test(file));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `(no file; package.json says: ${license})`;
  return `${name} ${version} (${license})\nhttps://www.npmjs.com/package/${name}/v/${version}\n\n${text}\n`;
});
writeFileSync(join(OUT, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
