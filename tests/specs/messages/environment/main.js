// `NETWORK.env` is what the host gave, frozen to the bottom.
const sandbox = new V8Sandbox({ env: { from: "sandbox" } });
const [a, b] = [
  await sandbox.createIsolate({ env: { key: "value", deep: { list: [1, { x: 2 }] } } }),
  await sandbox.createIsolate(),
];
const attempts = `
  "use strict";
  const tried = (f) => { try { f(); return "changed" } catch (error) { return error.name } };
  [NETWORK.env, tried(() => { NETWORK.env.key = 1 }), tried(() => { NETWORK.env.deep.list.push(1) }),
   tried(() => { NETWORK.env.deep.list[1].x = 3 }), tried(() => { delete NETWORK.env.key }),
   tried(() => { NETWORK.env = {} }), tried(() => { globalThis.NETWORK = {} })]`;
console.log(await a.evaluate(attempts));
console.log(await b.evaluate("NETWORK.env"));
sandbox.shutdown();
