// Runs one task in a process of its own: its lines, and what is read of it at the marks.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Longer than any task takes; a runtime that hangs is ended and reported. */
const TIMEOUT_MS = 120_000;

/**
 * Resolves with `{ result, marks }`, where a mark is what `look(pid, name)` gave at that line; rejects
 * with what the process said when it fails.
 */
export function runTask([program, ...args], look) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const marks = {};
  let result;
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => { errors = (errors + text).slice(-2000); });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [, kind, rest] = line.match(/^(mark|result) (.*)$/) ?? [];
    if (kind === "mark") marks[rest] = look(child.pid, rest);
    if (kind === "result") result = JSON.parse(rest);
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (result) return resolve({ result, marks });
      const how = signal ? `was ended by ${signal}` : `exited with ${code}`;
      reject(new Error(`${how}: ${errors.trim().split("\n")[0] || "it said nothing"}`));
    });
  });
}
