// An exception of guest code reaches the host as the system event `error`, and is not an error of the host.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const errors = [];
let received;
guest.onSystem("error", (error) => {
  // Frames of the runtime's own scripts are no promise.
  error.stack = error.stack?.split("\n").filter((line) => !line.includes("ext:")).join("\n") ?? null;
  errors.push(error);
  received?.();
});
const next = async (code) => {
  const before = errors.length;
  const one = new Promise((resolve) => received = () => errors.length > before && resolve());
  console.log("execute returns", guest.execute(code));
  await one;
  if (errors.length < 9) console.log(errors.at(-1));
};
await next(`const a = 1;\nthrow new RangeError("thrown")`);
await next(`Promise.reject(new Error("rejected"))`);
await next(`setTimeout(() => {\n  nowhere();\n})`);
await next(`interface A {\n  b: string\n}\nconst a2: A = null!;\na2.b`);
await next(`let 1x;`);
await next(`throw { any: "value" }`);
await next(`reportError("reported")`);
await next(`throw new Error("\\x1b[31mred\\x07\\u202e")`);
const long = new Promise((resolve) => guest.onSystem("error", resolve));
guest.execute(`throw new Error("x".repeat(1e6))`);
const { message } = await long;
console.log(message.length < 66_000, message.slice(0, 3));
console.log(await guest.evaluate(`"alive"`), guest.destroyed);
sandbox.shutdown();
