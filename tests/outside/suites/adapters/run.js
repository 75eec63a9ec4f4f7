// The main module of a guest of `stockade run` that runs the tests of one file.

import { load } from "./builtin.js";
import { drive } from "./drive.js";
import { collect } from "suite:adapter";

export async function run(skip) {
  await load();
  const tests = collect(await import("suite:file"), {});
  await drive(tests, skip, (result) => NETWORK.send("result", result));
  return tests.length;
}
