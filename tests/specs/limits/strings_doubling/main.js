// Strings doubling. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `let s = "x"; const all = []; for (;;) { s += s; if (s.length > 1e8) { s = "x" + all.length } all.push(s.split("")) }`,
  harmless: `let s = "x"; for (let i = 0; i < 10; i++) s += s`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
