// What an error came of comes with it: to `evaluate`, to `call` and as the system event.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({
  modules: { "main.ts": `
    type Why = { cause: unknown };
    export function f() {
      throw new Error("outer", { cause: new TypeError("inner", { cause: "a text" }) } as Why);
    }` },
});
const show = (error) => {
  const own = (stack) => stack.split("\n").filter((line) => !line.includes("ext:")).join("|");
  return { name: error.name, message: error.message, stack: own(error.stack ?? "null"),
    ...error.cause && { cause: show(error.cause) }, ...error.errors && { errors: error.errors.map(show) } };
};
const rejected = (promise) => promise.then(() => "none", (error) => error);

const thrown = await rejected(guest.call("f"));
console.log(show(thrown), thrown instanceof Error, thrown.cause instanceof Error);

const all = await rejected(guest.evaluate(`
  Promise.any([Promise.reject(new RangeError("one", { cause: new Error("of one") })), Promise.reject(2)])`));
console.log(show(all), all instanceof AggregateError);

const event = new Promise((resolve) => guest.onSystem("error", resolve));
guest.execute(`throw new AggregateError([new Error("first"), new Error("second")], "both", { cause: new Error("why") })`);
console.log(show(await event));

const deep = await rejected(guest.evaluate(`
  let error = new Error("deepest");
  for (let i = 0; i < 100; i++) error = new Error("e".repeat(1e5), { cause: error });
  error.cause.cause.cause = error;
  throw error`));
let depth = 0;
for (let at = deep; at !== undefined; at = at.cause) depth++;
console.log("bounded:", depth < 10, deep.cause.message.length < 10_000);
sandbox.shutdown();
