// Parser overflow. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does a harmless twin of it.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) { try { eval("(".repeat(1e6)) } catch {} }`,
  harmless: `eval("(".repeat(100) + ")".repeat(100))`,
});
