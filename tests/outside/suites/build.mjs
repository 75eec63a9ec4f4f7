// Bundles each test file of a suite with the adapter that stands for the suite's harness.
//
//     node build.mjs < plan.json > problems.json
//
// A plan has `root` (the caller's checkout), `kind` (deno, workerd or hono), `realm` (run or site), `seconds` for each test, and `tasks`, each
// with `file`, `out`, and for workerd `flags` and `bindings`. What is printed is an object: file to why it has no bundle.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = join(dirname(fileURLToPath(import.meta.url)), "adapters");
const cache = process.env.STOCKADE_OUTSIDE_TOOLS;
const require = createRequire(join(cache, "suites/package.json"));
const esbuild = require("esbuild");
const plan = JSON.parse(readFileSync(0, "utf8"));

const adapters = { deno: "deno.js", workerd: "workerd.js", hono: "vitest.js" };
const standIns = {
  deno: [
    [/^@std\/|(^|\/)test_util\.ts$/, () => ({ path: join(here, "deno-std.cjs") })],
    [/^(node|npm|jsr|https?):/, stubOf],
  ],
  workerd: [
    [/^cloudflare:workers$/, external],
    [/^[^./]|^file:/, (name) => stubOf(/^(assert|test|util|buffer)$/.test(name) ? `node:${name}` : name)],
  ],
  hono: [
    [/^vitest$/, () => ({ path: join(here, "vitest-module.cjs") })],
    [/^hono\/jsx\/jsx-(dev-)?runtime$/, () => ({ path: join(plan.root, "src/jsx/jsx-runtime.ts") })],
    [/^cloudflare:workers$/, external],
    [/^[^./]/, stubOf],
  ],
};

function external(name) {
  return { path: name, external: true };
}

function stubOf(name) {
  return { path: name, namespace: "stub" };
}

const suite = (task) => ({
  name: "suite",
  setup(build) {
    build.onResolve({ filter: /^suite:adapter$/ }, () => ({ path: join(here, adapters[plan.kind]) }));
    build.onResolve({ filter: /^suite:file$/ }, () => ({ path: join(plan.root, task.file) }));
    build.onResolve({ filter: /^(@vitest\/|chai$|zod$)/ }, ({ path, kind, importer, resolveDir }) =>
      resolveDir.startsWith(here) || path === "zod" && !resolveDir.startsWith(cache)
        ? build.resolve(path, { kind, importer, resolveDir: join(cache, "suites") })
        : undefined);
    build.onResolve({ filter: /.*/ }, ({ path, importer, namespace }) => {
      if (namespace !== "file" || !importer.startsWith(plan.root)) return undefined;
      for (const [filter, answer] of standIns[plan.kind]) if (filter.test(path)) return answer(path);
      const file = join(dirname(importer), path);
      // TypeScript and bundlers let the ending out, or write the one that comes out of a compiler.
      for (const one of [file, `${file}.ts`, `${file}.tsx`, join(file, "index.ts"), join(file, "index.tsx")]) {
        if (existsSync(one) && /\.\w+$/.test(one)) return undefined;
      }
      return stubOf(path);
    });
    build.onLoad({ filter: /.*/, namespace: "stub" }, ({ path }) => {
      const name = JSON.stringify(path);
      const module = plan.kind === "workerd" ? "workerd-module.cjs" : "drive.js";
      const make = plan.kind === "workerd" ? "" : ".stub";
      return {
        contents: `module.exports = globalThis.__suiteModules[${name}] ?? require(${JSON.stringify(join(here, module))})${make}(${name});`,
        resolveDir: here,
      };
    });
  },
});

const problems = {};
let next = 0;
async function work() {
  while (next < plan.tasks.length) {
    const task = plan.tasks[next++];
    try {
      await esbuild.build({
        entryPoints: [join(here, plan.realm === "run" ? "run.js" : "site.js")],
        outfile: task.out,
        bundle: true,
        format: "esm",
        target: "esnext",
        platform: "neutral",
        conditions: ["import", "module", "default"],
        mainFields: ["module", "main"],
        loader: { ".wasm": "binary", ".pem": "text", ".txt": "text" },
        jsx: "automatic",
        jsxImportSource: "hono/jsx",
        tsconfigRaw: { compilerOptions: { experimentalDecorators: false } },
        logLevel: "silent",
        define: {
          "import.meta.url": '"file:///test.ts"',
          "process.env.NODE_ENV": '"test"',
          __MS__: String(plan.seconds * 1000),
          __FLAGS__: JSON.stringify(task.flags ?? []),
          __BINDINGS__: JSON.stringify(task.bindings ?? []),
        },
        plugins: [suite(task)],
      });
    } catch (error) {
      problems[task.file] = (error.errors?.[0]?.text ?? String(error)).slice(0, 500);
    }
  }
}
await Promise.all([work(), work()]);
console.log(JSON.stringify(problems));
