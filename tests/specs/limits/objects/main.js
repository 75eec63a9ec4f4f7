// Objects. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const all = []; for (;;) all.push({ a: [1, 2, 3], b: {} })`,
  harmless: `const all = []; for (let i = 0; i < 1e4; i++) all.push({ a: [1, 2, 3] })`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
