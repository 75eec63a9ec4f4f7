// Compression streams. It ends, by the runtime; its neighbour answers meanwhile and afterwards, and so
// does its harmless control.
import { attack } from "../attack.js";

await attack({
  hostile: `globalThis.all = []; (async () => { for (;;) { const c = new CompressionStream("gzip"); const w = c.writable.getWriter(); all.push(c, w); w.write(new Uint8Array(1e5)).catch(() => {}); await null } })()`,
  harmless: `new CompressionStream("gzip").writable.getWriter().write(new Uint8Array(1e3)).catch(() => {})`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
