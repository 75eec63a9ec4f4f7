// Where the measured programs are.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const bench = fileURLToPath(new URL(".", import.meta.url));

export const modules = join(bench, "node_modules");
export const stockade = join(process.env.CARGO_TARGET_DIR ?? join(bench, "..", "target"), "release", "stockade");
export const deno = join(modules, "@deno", "linux-x64-glibc", "deno");
export const bun = join(modules, "@oven", "bun-linux-x64", "bin", "bun");
export const node = process.execPath;

/** The file of an adapter. */
export const adapter = (name) => join(bench, "adapters", `${name}.js`);

export const versionOf = (program) =>
  execFileSync(program, ["--version"], { encoding: "utf8" }).match(/\d+(\.\d+)+\S*/)?.[0] ?? "unknown";
