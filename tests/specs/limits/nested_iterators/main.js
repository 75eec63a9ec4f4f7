// Nested iterators. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `let it = [1].values(); for (;;) it = it.map((x) => x)`,
  harmless: `[...[1].values().map((x) => x)]`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
