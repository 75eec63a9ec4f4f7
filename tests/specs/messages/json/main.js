// Data is JSON: what JSON drops is dropped, what it refuses is refused where it is sent.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
guest.execute(`NETWORK.on("echo", (data) => NETWORK.send("back", data))`);
function echo(data) {
  return new Promise((resolve) => {
    const handler = (back) => {
      guest.off("back", handler);
      resolve(back);
    };
    guest.on("back", handler);
    guest.send("echo", data);
  });
}
for (
  const data of [
    undefined,
    null,
    0,
    -0,
    NaN,
    "žluť 🐎 \u2028 \ud800",
    [1, undefined, () => {}],
    { a: undefined, b: () => {}, [Symbol("s")]: 1, c: new Date(0), d: new Map([[1, 2]]) },
    { toJSON: () => "by toJSON" },
    Object.create({ inherited: 1 }),
    JSON.parse('{"__proto__":{"x":1},"constructor":2}'),
    "x".repeat(10_000).length,
  ]
) {
  console.log(await echo(data));
}
const deep = JSON.parse("[".repeat(1000) + "]".repeat(1000));
console.log(JSON.stringify(await echo(deep)).length);

const cycle = {};
cycle.self = cycle;
for (const data of [cycle, 1n, { a: [1n] }]) {
  try {
    guest.send("echo", data);
  } catch (error) {
    console.log("host", error.name, error.message.split("\n")[0]);
  }
}
console.log(await guest.evaluate(`
  const cycle = {}; cycle.self = cycle;
  [cycle, 1n, { a: [1n] }].map((data) => { try { NETWORK.send("x", data) } catch (error) { return "guest " + error.name + " " + error.message.split("\\n")[0] } })`));
// Names are strings, of a sensible length.
console.log(await guest.evaluate(`
  [["x".repeat(2000)], [5], [Symbol()], []].map((args) => { try { NETWORK.send(...args) } catch (error) { return error.name + " " + error.message } })`));
try {
  guest.send("x".repeat(2000));
} catch (error) {
  console.log(error.message);
}
sandbox.shutdown();
