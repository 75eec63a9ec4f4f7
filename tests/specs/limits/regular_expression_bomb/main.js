// Regular expression bomb. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `/(a+)+$/.test("a".repeat(50) + "b")`,
  harmless: `/(a+)+$/.test("a".repeat(15) + "b")`,
});
