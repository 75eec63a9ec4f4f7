// Two isolates of one sandbox: no global, prototype, module or stored value crosses.
const sandbox = new V8Sandbox();
const modules = { counter: "export let n = 0; export const next = () => ++n;" };
const [a, b] = [await sandbox.createIsolate({ modules }), await sandbox.createIsolate({ modules })];
a.execute(`
  globalThis.secret = 42;
  Object.prototype.leak = "leak";
  Array.prototype.push = () => { throw new Error("pushed") };
  Symbol.for("shared").description;
  performance.mark("secret");
`);
console.log(await a.evaluate(`import("counter").then((m) => [m.next(), m.next(), secret, ({}).leak])`));
console.log(await b.evaluate(`import("counter").then((m) => [m.next(), typeof secret, typeof ({}).leak, [1].concat([2]).length, [].push(1), performance.getEntries().length])`));
console.log("host:", typeof globalThis.secret, typeof {}.leak, [].push(1));
sandbox.shutdown();
