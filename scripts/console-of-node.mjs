// Writes what Node's console prints for the cases of `tests/specs/realm/console_like_node` to `node.json` there.
//
//     node scripts/console-of-node.mjs           writes the file
//     node scripts/console-of-node.mjs --check   fails where the file differs from what this Node prints
//
// A line ends with the stream that it goes to only where that is not standard output.

import { Console } from "node:console";
import { readFileSync, writeFileSync } from "node:fs";
import { Writable } from "node:stream";
import { fileURLToPath } from "node:url";

const folder = new URL("../tests/specs/realm/console_like_node/", import.meta.url);
const parts = readFileSync(new URL("cases.js", folder), "utf8").split(/^\/\/# (.*)\n/m).slice(1);

// Calls that end in a new line each, as the lines of one stream.
function run(code) {
  const calls = [];
  const stream = (name) =>
    new Writable({
      decodeStrings: false,
      write(text, _, done) {
        calls.push([name, text.replace(/\n$/, "")]);
        done();
      },
    });
  const console = new Console({ stdout: stream("out"), stderr: stream("err"), colorMode: false });
  // Warnings of the process, such as that of a label without a timer, are lines of its standard error.
  const warned = process.emitWarning;
  process.emitWarning = (text) => calls.push(["err", String(text)]);
  try {
    new Function("console", code)(console);
  } finally {
    process.emitWarning = warned;
  }
  return calls;
}

const printed = {};
for (let i = 0; i < parts.length; i += 2) printed[parts[i]] = run(parts[i + 1]);
const text = JSON.stringify(printed, undefined, 1) + "\n";
const path = new URL("node.json", folder);
if (!process.argv.includes("--check")) {
  writeFileSync(path, text);
} else if (readFileSync(path, "utf8") !== text) {
  console.error(`${fileURLToPath(path)} is not what Node ${process.version} prints: run this script without --check`);
  process.exit(1);
} else {
  console.log(`${Object.keys(printed).length} cases print what Node ${process.version} prints`);
}
