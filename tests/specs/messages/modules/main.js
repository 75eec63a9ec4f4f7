// A guest imports what its host put into `modules`, and nothing else.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({
  modules: {
    "main": `import { helper } from "./lib/helper.ts";\nimport data from "data.json" with { type: "json" };\nexport const answer = helper(data.n);\nexport const url = import.meta.url;`,
    "./lib/helper.ts": `interface Twice { (n: number): number }\nexport const helper: Twice = (n) => n * 2;`,
    "data.json": `{ "n": 21 }`,
    "throws.ts": `type A = {\n  b: 1\n}\nexport const a = 1;\nthrow new Error("line five");`,
    "syntax.js": `export const = 1;`,
    "missing.js": `import "not-there";`,
    "wait": `export const value = await new Promise((resolve) => setTimeout(() => resolve("awaited"), 1));`,
    "cycle/a": `import { b } from "cycle/b"; export const a = () => b;`,
    "cycle/b": `import { a } from "cycle/a"; export const b = typeof a;`,
  },
});
const load = (name, pick = "Object.keys(m)", how = "") =>
  guest.evaluate(`import(${JSON.stringify(name)}${how}).then((m) => ${pick})`)
    .then((value) => console.log(name, value), (error) => console.log(name, error.stack));
await load("main", "[m.answer, m.url]");
await load("data.json", "m.default", `, { with: { type: "json" } }`);
await load("wait", "m.value");
await load("cycle/a", "m.a()").catch(() => {});
await load("throws.ts");
await load("syntax.js");
await load("missing.js");
await load("not-there");
await load("node:fs");
await load("https://example.com/x.js");
await load("file:///etc/passwd");
await load("../../../etc/passwd");
await load("ext:core/ops");
sandbox.shutdown();
