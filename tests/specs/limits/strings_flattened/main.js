// Strings flattened. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const all = []; for (;;) all.push("x".repeat(1e6).split("").join("y"))`,
  harmless: `["x".repeat(1e3).split("").join("y")]`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
