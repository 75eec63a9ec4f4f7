// Runs one task in one runtime: a process of its own, its lines, and its memory at the marks.

import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";

/** Longer than any task takes; a runtime that hangs is ended and reported. */
const TIMEOUT_MS = 120_000;

/** Resident bytes of a process and all below it (`VmRSS`, proc(5)). */
function residentBytes(pid) {
  let total = 0;
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    total = Number(status.match(/^VmRSS:\s+(\d+) kB/m)?.[1] ?? 0) * 1024;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8");
      for (const child of children.split(" ").filter(Boolean)) total += residentBytes(child);
    }
  } catch {
    // It ended between two reads.
  }
  return total;
}

/** Resolves with `{ result, marks }`; rejects with what the process said when it fails. */
export function runTask(runtime, task) {
  const [program, ...args] = runtime.command(JSON.stringify(task));
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const marks = {};
  let result;
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => { errors = (errors + text).slice(-2000); });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [, kind, rest] = line.match(/^(mark|result) (.*)$/) ?? [];
    if (kind === "mark") marks[rest] = residentBytes(child.pid);
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
