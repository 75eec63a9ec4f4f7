// `console`: silent unless the host asks; then bounded, and harmless to a terminal.
const sandbox = new V8Sandbox({ cpuLimitMs: 10_000 });
const silent = await sandbox.createIsolate();
silent.onSystem("console", (line) => console.log("NOT SILENT", line));
console.log(await silent.evaluate(`console.log("x"); console.error("y"); console.table([1]); typeof console.dir`));

const loud = await sandbox.createIsolate({ console: "event" });
const lines = [];
let wanted, enough;
loud.onSystem("console", (line) => {
  lines.push(line);
  if (lines.length >= wanted) enough?.();
});
const listen = async (count, code) => {
  lines.length = 0;
  wanted = count;
  const all = new Promise((resolve) => enough = resolve);
  loud.execute(code);
  await all;
  return lines;
};
console.log(await listen(7, `
  console.log("text", 1, { a: [1, 2] }, null);
  console.info("%s is %d", "one", 1);
  console.warn("careful"); console.error(new RangeError("bad").message); console.debug("fine");
  console.log("\\x1b[2J\\x1b]0;title\\x07\\r\\u009b31m\\u202e\\u0000end");
  console.log("two\\nlines");
`));
const [cut] = await listen(1, `console.log("x".repeat(1e6))`);
const [, end] = cut.text.split("…");
console.log("cut:", cut.text.length <= 16_384, cut.text.slice(0, 2), end);

// More than a console may say in a second: the rest is counted.
await listen(500, `for (let i = 0; i < 20_000; i++) console.log(i); `);
const after = new Promise((resolve) => enough = () => lines.some(({ text }) => text === "later") && resolve());
wanted = 0;
loud.execute(`setTimeout(() => console.log("later"), 2000)`);
await after;
const rest = lines.filter(({ text }) => !/^\d+$/.test(text));
console.log("below 20000:", lines.length < 20_000, rest.map(({ text }) => text.replace(/\d+/g, "N")));

const inherit = await sandbox.createIsolate({ console: "inherit", name: "plugin" });
const said = new Promise((resolve) => inherit.on("said", resolve));
inherit.execute(`console.log("to stdout\\x1b[31m"); console.error("to stderr"); console.log("two\\nlines"); NETWORK.send("said", 1)`);
console.log(await said);
sandbox.shutdown();
