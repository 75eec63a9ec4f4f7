// Eval bomb. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const all = []; for (let i = 0; ; i++) all.push((0, eval)("(function() { return " + "1+".repeat(1e4) + i + " })"))`,
  harmless: `(0, eval)("1 + 1")`,
});
