// `ready` settles when the main module has run, and rejects with why it did not; so does a call of a function
// that the module would have had.
const sandbox = new V8Sandbox({ cpuLimitMs: 200, wallLimitMs: 60_000 });
const make = async (source, more) => {
  const guest = await sandbox.createIsolate({ modules: { "main.ts": source, ...more } });
  guest.onSystem("error", () => {});
  return guest;
};
const emit = (label, promise) =>
  promise.then(
    (value) => console.log(label, "->", value),
    (error) => console.log(label, "->", error.stack),
  );

for (
  const [label, source, more] of [
    ["fine", `export const f = (n: number) => n + 1;`],
    ["waits", `export const f = await new Promise((resolve) => setTimeout(() => resolve((n) => n + 1), 5));`],
    ["syntax", `export const f = ;`],
    ["syntax of an import", `import "./a.js";`, { "a.js": "let 1x;" }],
    ["bad import", `\nimport "./gone.ts";`],
    ["left out", `import "./a";`, { "a.ts": "" }],
    ["package", `import x from "npm:zod"; x;`],
    ["no such export", `import { g } from "./a.ts"; g();`, { "a.ts": "" }],
    ["throws", `interface A { b: 1 }\nexport function f() {}\nthrow new RangeError("at the top")`],
    ["rejects", `await Promise.reject(new RangeError("in an await"))`],
  ]
) {
  const guest = await make(source, more);
  await emit(`${label}: ready`, guest.ready);
  await emit(`${label}: call`, guest.call("f", 1));
  console.log(await guest.evaluate("'alive'"), guest.ready === guest.ready);
}

const bare = await sandbox.createIsolate();
await emit("no module: ready", bare.ready);
await emit("no module: call", bare.call("f"));

const slow = await make(`NETWORK.send("here"); await new Promise((resolve) => NETWORK.on("go", resolve)); export const f = 1;`);
const here = new Promise((resolve) => slow.on("here", resolve));
await here;
const called = emit("waiting: call", slow.call("g"));
slow.send("go");
await called;
await emit("waiting: ready", slow.ready);

const endless = await make(`for (;;);`);
const ready = endless.ready.catch((error) => error.message.split(" (")[0]);
console.log(await ready);
sandbox.shutdown();
