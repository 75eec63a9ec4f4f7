#!/usr/bin/env node
// Starts the program of the package for this platform, with the arguments, descriptors and exit code of this one.

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { packaged } from "../lib/program.js";

let path;
try {
  path = packaged();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

const child = spawn(path, process.argv.slice(2), { stdio: "inherit" });
// A terminal sends these to the whole group; a supervisor sends them to this process alone.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`cannot start ${path}: ${error.message}`);
  process.exit(1);
});
// A program that a signal ended has the exit code that a shell gives it.
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
