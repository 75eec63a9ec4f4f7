// Function bomb. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does a harmless twin of it.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) new Function("return " + Math.random())`,
  harmless: `new Function("return 1")()`,
});
