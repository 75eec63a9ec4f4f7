// Bundles each client with its site, as docs/workers-api.md says: node bundle.mjs OUT NAME... Runs in a copy of this
// folder, where `npm ci` was run.

import { build } from "esbuild";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const [out, ...names] = process.argv.slice(2);
for (const name of names) {
  await build({
    entryPoints: [join(here, "site.js")],
    outfile: join(out, name, "index.js"),
    alias: {
      driver: join(here, `${name}.js`),
      // Its build for the web: the other one wants all of Node's ciphers.
      openpgp: join(here, "node_modules/openpgp/dist/openpgp.min.mjs"),
    },
    bundle: true,
    format: "esm",
    platform: "node",
    conditions: ["workerd"],
    external: ["cloudflare:sockets", "pg-native"],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire('/'); const __filename = '/index.js';" },
    logLevel: "error",
  });
}
