// Prepare stack trace loop. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `Error.prepareStackTrace = () => { for (;;); }; null.x`,
  harmless: `Error.prepareStackTrace = () => "mine"; new Error("x").stack`,
});
