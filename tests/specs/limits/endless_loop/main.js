// Endless loop. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;);`,
  harmless: `for (let i = 0; i < 1e5; i++);`,
});
