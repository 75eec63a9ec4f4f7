// Bigint bomb. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `let a = BigInt("9".repeat(1e5)); for (;;) a = a * a`,
  harmless: `let a = BigInt("9".repeat(100)); a *= a`,
});
