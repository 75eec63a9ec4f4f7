// Stream queue. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `let c; globalThis.s = new ReadableStream({ start(x) { c = x } }); for (;;) c.enqueue(new Uint8Array(1e6))`,
  harmless: `new ReadableStream({ start(c) { c.enqueue(1) } })`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
