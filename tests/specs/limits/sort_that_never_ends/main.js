// Sort that never ends. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does a harmless twin of it.
import { attack } from "../attack.js";

await attack({
  hostile: `Array.from({ length: 1e5 }, Math.random).sort(() => { for (;;); })`,
  harmless: `[2, 1].sort()`,
});
