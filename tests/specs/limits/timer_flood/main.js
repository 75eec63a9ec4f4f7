// Timer flood. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `for (;;) setTimeout(() => {}, 1e6)`,
  harmless: `for (let i = 0; i < 100; i++) setTimeout(() => {}, 1)`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
