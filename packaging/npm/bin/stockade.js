#!/usr/bin/env node
// Starts the program of the package for this platform, with the arguments, descriptors and exit code of this one.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const { program } = require("../index.js");

let path;
try {
  path = program();
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
