// The console of guests compared with Node's: each case of `cases.js` prints what `node.json` says that Node prints, except where
// `different.json` has another text and the reason.

const read = (name) => Deno.readTextFileSync(new URL(name, import.meta.url));
const parts = read("cases.js").split(/^\/\/# (.*)\n/m).slice(1);
const node = JSON.parse(read("node.json"));
const different = JSON.parse(read("different.json"));
const errors = ["warn", "error"];

const sandbox = new V8Sandbox();
let same = 0;
for (let i = 0; i < parts.length; i += 2) {
  const name = parts[i];
  const isolate = await sandbox.createIsolate({ console: "event", isolation: "thread" });
  const calls = [];
  isolate.onSystem("console", ({ level, text }) => calls.push([errors.includes(level) ? "err" : "out", text]));
  await isolate.evaluate(`(() => {\n${parts[i + 1]}\n})()`);
  isolate.destroy();
  const expected = different[name]?.calls ?? node[name];
  if (JSON.stringify(calls) === JSON.stringify(expected)) same++;
  else {
    console.log(`---- ${name}`);
    for (let n = 0; n < Math.max(calls.length, expected.length); n++) {
      const [ours, theirs] = [JSON.stringify(calls[n]), JSON.stringify(expected[n])];
      if (ours !== theirs) console.log(`ours:   ${ours}\nwanted: ${theirs}`);
    }
  }
}
const unused = Object.keys(different).filter((name) => !(name in node));
console.log(`${same} of ${parts.length / 2} cases as expected; differences of unknown cases: ${unused.length}`);
sandbox.shutdown();
