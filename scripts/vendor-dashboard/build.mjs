// Bundles npm packages into crates/stockade-serve/dashboard/vendor: the libraries of the dashboard.
//
//   cd scripts/vendor-dashboard && npm ci --ignore-scripts && node build.mjs
//
// libraries.js holds Preact, htm and uPlot, minified and otherwise unchanged; uplot.css is uPlot's own. The licences
// stand in LICENSES.txt in the same folder. All other files of the dashboard are served as they are in the tree.

import { build } from "esbuild";
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const OUT = join(here, "../../crates/stockade-serve/dashboard/vendor");
const PACKAGES = ["htm", "preact", "uplot"];

await build({
  stdin: {
    contents: `
      import { h } from "preact";
      import htm from "htm";
      export { Component, render } from "preact";
      export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
      export { default as uPlot } from "uplot";
      export const html = htm.bind(h);`,
    resolveDir: here,
    loader: "js",
  },
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  legalComments: "none",
  banner: { js: "// Made by scripts/vendor-dashboard/build.mjs: see LICENSES.txt." },
  outfile: join(OUT, "libraries.js"),
  logLevel: "error",
});
copyFileSync(join(here, "node_modules/uplot/dist/uPlot.min.css"), join(OUT, "uplot.css"));

const licences = PACKAGES.map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `(no file; package.json says: ${license})`;
  return `${name} ${version} (${license})\nhttps://www.npmjs.com/package/${name}/v/${version}\n\n${text}\n`;
});
writeFileSync(join(OUT, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
