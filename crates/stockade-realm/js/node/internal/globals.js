// Node's globals, which libraries use without importing them: there once a module of Node is imported.
import { Buffer } from "node:buffer";
import process from "node:process";
import { clearImmediate, setImmediate } from "internal:immediate";

const given = { Buffer, clearImmediate, global: globalThis, process, setImmediate };
for (const [name, value] of Object.entries(given)) {
  if (globalThis[name] === undefined) {
    Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
  }
}
