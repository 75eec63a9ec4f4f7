// Deep json. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) { try { JSON.parse("[".repeat(1e6) + "]".repeat(1e6)) } catch {} }`,
  harmless: `JSON.parse("[".repeat(1e3) + "]".repeat(1e3))`,
});
