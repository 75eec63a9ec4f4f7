// Wasm memory grow. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `const all = []; for (;;) { const m = new WebAssembly.Memory({ initial: 100 }); m.grow(100); new Uint8Array(m.buffer).fill(1); all.push(m) }`,
  harmless: `new WebAssembly.Memory({ initial: 1 }).grow(1)`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
