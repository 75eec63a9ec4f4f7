// Array buffer resize. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const b = new ArrayBuffer(1, { maxByteLength: 2 ** 30 }); for (let n = 1 << 20; ; n += 1 << 20) { b.resize(n); new Uint8Array(b).fill(1) }`,
  harmless: `new ArrayBuffer(1, { maxByteLength: 2 ** 20 }).resize(2 ** 20)`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
