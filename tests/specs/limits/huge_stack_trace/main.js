// Huge stack trace. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `Error.stackTraceLimit = Infinity; function f(n) { if (n) f(n - 1); else for (const all = []; ; ) all.push(new Error("x".repeat(1e5)).stack + 1) } f(1000)`,
  harmless: `Error.stackTraceLimit = 100; new Error("x").stack`,
});
