// Proxy recursion. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `let p = new Proxy({}, {}); for (;;) p = new Proxy(p, {})`,
  harmless: `new Proxy(new Proxy({}, {}), {}).x`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
