// Catch and continue. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `function again() { for (;;) { try { for (;;); } catch { again() } finally { again() } } } again()`,
  harmless: `try { throw 1 } catch {} finally {}`,
});
