// A guest reaches the functions it was given, and nothing through them.
const given = { svc: { price: (item) => item }, plain: {} };
Object.prototype.inherited = () => "from the host's prototype";
const worker = await new V8Sandbox().createIsolate({ env: given });
delete Object.prototype.inherited;
given.svc.later = () => "added later";
given.svc.price = () => "replaced later";
const rejected = (method, data = "[]") =>
  worker.evaluate(`NETWORK.request(${JSON.stringify(method)}, ${data}).then((v) => ["reached", v], (e) => e.message)`);
for (
  const path of [
    "svc", "svc.later", "svc.price.call", "svc.price.constructor", "svc.constructor", "svc.__proto__",
    "__proto__", "constructor", "toString", "inherited", "plain", "", ".", "svc.", "svc..price",
  ]
) console.log(await rejected("env:" + path));

// The arguments are data: a list, or nothing is called.
for (const data of ["undefined", "null", "'text'", "{ length: 1, 0: 'x' }"]) {
  console.log(await rejected("env:svc.price", data));
}
console.log(await rejected("env:svc.price", "['the control']"));

// Frozen, and the guest's own: what it does to its realm is its own trouble.
console.log(await worker.evaluate(`(() => {
  "use strict";
  const tried = (f) => { try { f(); return "changed" } catch (error) { return error.name } };
  const { svc } = NETWORK.env;
  return [tried(() => { svc.price = 1 }), tried(() => { svc.price.own = 1 }), tried(() => { svc.other = 1 }),
    tried(() => { delete svc.price }), tried(() => new svc.price()), Object.isFrozen(svc.price)];
})()`));
// It may lie about its own arguments, which are its own to choose.
console.log(await worker.evaluate(`(async () => {
  Array.prototype.toJSON = () => ["forged"];
  Function.prototype.call = Function.prototype.apply = () => "taken";
  globalThis.Promise = class { constructor() { throw new Error("no promises") } };
  const answer = await NETWORK.env.svc.price("x");
  delete Array.prototype.toJSON;
  return answer;
})()`));
console.log(await worker.evaluate("NETWORK.env.svc.price(1n).catch((error) => error.name)"));
console.log(await worker.evaluate("NETWORK.env.svc.price(() => 1)"));
worker.destroy();
