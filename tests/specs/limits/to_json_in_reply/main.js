// To json in reply. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `NETWORK.request("x", { toJSON() { for (;;); } })`,
  harmless: `NETWORK.request("x", { toJSON() { return 1 } })`,
});
