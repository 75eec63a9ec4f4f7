// A text that becomes eighteen times as long when it is normalised, in one call outside V8's heap.
import { attack } from "../attack.js";

await attack({
  hostile: `globalThis.all = []; for (;;) all.push("\\ufdfa".repeat(8e6).normalize("NFKD"))`,
  harmless: `if ("\\ufdfa".repeat(1e4).normalize("NFKD").length !== 18e4) for (;;);`,
  // So that memory runs out first, on a slow machine too.
  limits: { cpuLimitMs: 30_000, wallLimitMs: 50_000 },
});
