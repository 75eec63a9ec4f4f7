// Typed arrays. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1))`,
  harmless: `for (let i = 0; i < 100; i++) new Uint8Array(1e5)`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
