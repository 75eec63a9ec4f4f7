// The package `stockade`: sandboxes for untrusted JavaScript and TypeScript.

export { GuestError, StockadeError } from "./lib/errors.js";
export { program } from "./lib/program.js";
export { Sandbox, Session } from "./lib/sandbox.js";
