// The terminal: its size, whether there is one, and the blocking questions of the web platform.

import { core } from "ext:core/mod.js";
import { op_host_console_size } from "ext:core/ops";

const io = core.loadExtScript("ext:deno_io/12_io.js");

export function consoleSize() {
  const size = new Uint32Array(2);
  op_host_console_size(size);
  return { columns: size[0], rows: size[1] };
}

export function isatty(rid) {
  return core.isTerminal(rid);
}

const LINE_FEED = 0x0a;

// One line of standard input, without its end; null at the end of input.
function readLine() {
  const bytes = [];
  const byte = new Uint8Array(1);
  while (io.stdin.readSync(byte) !== null && byte[0] !== LINE_FEED) bytes.push(byte[0]);
  if (bytes.length === 0 && byte[0] !== LINE_FEED) return null;
  const line = core.decode(new Uint8Array(bytes));
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}

// Like a browser without a window, these return at once where nobody can answer.
const interactive = () => io.stdin.isTerminal();

export function alert(message = "Alert") {
  if (!interactive()) return;
  core.print(`${message} [Enter] `, false);
  readLine();
}

export function confirm(message = "Confirm") {
  if (!interactive()) return false;
  core.print(`${message} [y/N] `, false);
  const answer = readLine();
  return answer === "y" || answer === "Y";
}

export function prompt(message = "Prompt", fallback = null) {
  if (!interactive()) return null;
  core.print(fallback === null ? `${message} ` : `${message} [${fallback}] `, false);
  const answer = readLine();
  return answer === null || answer === "" ? fallback : answer;
}
