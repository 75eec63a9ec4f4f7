// Getter in message. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `NETWORK.send("x", { get a() { for (;;); } })`,
  harmless: `NETWORK.send("x", { get a() { return 1 } })`,
});
