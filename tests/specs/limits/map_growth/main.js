// Map growth. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const m = new Map(); for (let i = 0; ; i++) m.set(i, { i })`,
  harmless: `const m = new Map(); for (let i = 0; i < 1e4; i++) m.set(i, i)`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
