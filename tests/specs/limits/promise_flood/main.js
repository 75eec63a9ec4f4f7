// Promise flood. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `(function g() { Promise.resolve().then(g) })()`,
  harmless: `(function g(n) { if (n) Promise.resolve().then(() => g(n - 1)) })(1000)`,
});
