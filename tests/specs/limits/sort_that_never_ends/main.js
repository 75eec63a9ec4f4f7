// Sort that never ends. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `Array.from({ length: 1e5 }, Math.random).sort(() => { for (;;); })`,
  harmless: `[2, 1].sort()`,
});
