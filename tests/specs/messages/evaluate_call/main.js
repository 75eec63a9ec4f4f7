// `evaluate` and `call`: values, errors with the lines they came from, promises.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({
  modules: { tool: `export function twice(n: number): number { return n * 2 }` },
});
const show = (promise) => promise.then((value) => console.log(value), (error) => console.log(error instanceof Error, error.stack.split("\n").filter((line) => !line.includes("ext:")).join("\n")));
for (const code of [
  "1 + 1",
  "undefined",
  "({ a: [1, { b: null }] })",
  "let x = 1; x += 1; x",
  "Promise.resolve(5)",
  "({ then(resolve) { resolve('thenable') } })",
  "(async () => { await null; return 'later' })()",
  "for (let i = 0; i < 3; i++) i",
  "() => {}",
  "",
]) await show(guest.evaluate(code));

await show(guest.evaluate(`const first = 1;\n\nthrow new TypeError("on line three")`));
await show(guest.evaluate(`function outer() {\n  inner();\n}\nfunction inner() {\n  null.x;\n}\nouter();`));
await show(guest.evaluate(`type T = {\n  a: number\n}\nconst t: T = { a: 1 };\nthrow new Error("line five " + t.a)`));
await show(guest.evaluate(`let a = ;`));
await show(guest.evaluate(`throw "a string"`));
await show(guest.evaluate(`throw null`));
await show(guest.evaluate(`throw { toString() { throw 1 } }`));
await show(guest.evaluate(`Promise.reject(new RangeError("rejected"))`));
await show(guest.evaluate(`class Own extends Error { name = "Own" }; throw new Own("mine", { cause: 1 })`));
await show(guest.evaluate(`1n`));

guest.execute(`
  globalThis.add = (a, b) => a + b;
  globalThis.fail = async () => { throw new Error("from fail") };
  globalThis.count = (...args) => args.length;
`);
await show(guest.call("add", 2, 3));
await show(guest.call("count"));
await show(guest.call("count", undefined, null));
await show(guest.call("fail").catch((error) => error.message));
await show(guest.call("missing").catch((error) => error.message));
await show(guest.evaluate(`import("tool").then(({ twice }) => twice(21))`));
sandbox.shutdown();
