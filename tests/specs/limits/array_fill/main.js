// Array fill. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `Array(2 ** 32 - 1).fill(1)`,
  harmless: `Array(1000).fill(1)`,
});
