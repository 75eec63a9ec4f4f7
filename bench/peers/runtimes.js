// The runtimes, each with its version and the command that runs its adapter.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { adapter, bun, deno, modules, stockade, versionOf } from "../programs.js";

const require = createRequire(import.meta.url);

function binary(id, label, program, command) {
  if (!existsSync(program)) return { id, label, missing: `${id} is not installed` };
  return { id, label, version: versionOf(program), command };
}

function isolatedVm() {
  const [id, label] = ["isolated-vm", "isolated-vm"];
  const packaged = join(modules, "isolated-vm", "package.json");
  if (!existsSync(packaged)) return { id, label, missing: "it is not installed or did not build" };
  try {
    require(join(modules, "isolated-vm", "out", "isolated_vm.node"));
  } catch {
    return { id, label, missing: "it did not build here (it needs node's headers and a compiler)" };
  }
  const { version } = JSON.parse(readFileSync(packaged, "utf8"));
  // Without the flag, node 20 and newer crash in isolated-vm (its README).
  const command = (task) => [process.execPath, "--no-node-snapshot", adapter(id), task];
  return { id, label, version, command };
}

export const runtimeNames = ["stockade", "deno", "node", "bun", "isolated-vm"];

/** All runtimes; one that cannot run here has `missing` in place of `command`. */
export function findRuntimes() {
  return [
    binary("stockade", "Stockade", stockade, (task) => [stockade, "run", adapter("stockade"), "--", task]),
    binary("deno", "Deno Worker", deno, (task) => [deno, "run", "--quiet", "--no-config", adapter("deno"), task]),
    binary("node", "Node worker_threads", process.execPath, (task) => [process.execPath, adapter("node"), task]),
    binary("bun", "Bun Worker", bun, (task) => [bun, adapter("bun"), task]),
    isolatedVm(),
  ];
}
