// Busy timers. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `setInterval(() => { const until = Date.now() + 60_000; while (Date.now() < until); }, 1)`,
  harmless: `setTimeout(() => {}, 1)`,
});
