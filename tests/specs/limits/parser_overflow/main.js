// Parser overflow. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) { try { eval("(".repeat(1e6)) } catch {} }`,
  harmless: `eval("(".repeat(100) + ")".repeat(100))`,
});
