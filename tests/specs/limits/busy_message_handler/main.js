// Busy message handler. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `NETWORK.on("x", () => { for (;;); }); NETWORK.send("send me x")`,
  harmless: `NETWORK.on("x", () => {}); NETWORK.send("send me x")`,
});
