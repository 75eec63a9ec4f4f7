// Function bomb. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) new Function("return " + Math.random())`,
  harmless: `new Function("return 1")()`,
});
