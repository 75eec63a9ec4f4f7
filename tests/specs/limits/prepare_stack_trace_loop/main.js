// Prepare stack trace loop. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does a harmless twin of it.
import { attack } from "../attack.js";

await attack({
  hostile: `Error.prepareStackTrace = () => { for (;;); }; null.x`,
  harmless: `Error.prepareStackTrace = () => "mine"; new Error("x").stack`,
});
