// Endless recursion with catch. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `function f() { try { f() } catch { f() } } f()`,
  harmless: `function f(n) { return n ? f(n - 1) : 0 } f(1000)`,
});
