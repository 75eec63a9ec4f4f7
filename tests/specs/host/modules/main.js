// Modules by path, JSON, text, bytes, dynamic imports, `import.meta` and top-level await.
import { name, where } from "./lib/named.js";
import data from "./lib/data.json" with { type: "json" };
import text from "./lib/text.txt" with { type: "text" };
import bytes from "./lib/text.txt" with { type: "bytes" };
import { typed } from "./lib/typed.ts";

console.log(name, where.endsWith("/lib/named.js"));
console.log(data, JSON.stringify(text), bytes.length);
console.log(typed);
const later = await import("./lib/later.js");
console.log(later.default, (await import(new URL("./lib/later.js", import.meta.url).href)) === later);
console.log((await import("./lib/data.json", { with: { type: "json" } })).default.list);
console.log((await import("data:text/javascript,export default 6*7")).default);
console.log(import.meta.main, import.meta.filename.endsWith("/main.js"), import.meta.dirname.endsWith("/modules"));
console.log(import.meta.resolve("./x.js").endsWith("/modules/x.js"));
for (const wrong of ["./none.js", "./lib/data.json", "./lib", "express", "node:fs", "npm:a", "./lib/broken.ts"]) {
  await import(wrong).catch((error) => console.log(`${error.name}: ${error.message.split("\n")[0]}`));
}
