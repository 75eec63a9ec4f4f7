// Async loop. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `(async () => { for (;;) await null })()`,
  harmless: `(async () => { for (let i = 0; i < 1000; i++) await null })()`,
});
