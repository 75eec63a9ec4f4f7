// What a guest gives its console cannot cost more than the guest's own limits, nor break the format of a line.

const sandbox = new V8Sandbox({ wallLimitMs: 0, memoryLimitMb: 64 });
// What loops ends at a limit that is reached soon, and all else has far more than it needs.
const cpuLimitMs = (name) => / loops$/.test(name) ? 200 : 60_000;
const programs = {
  "control": "console.log({ a: [1, 2], get b() { return 1; } }, '%s', 'text')",
  "a getter that loops is not called": "console.log({ get a() { for (;;); } })",
  "a proxy whose traps loop is not asked":
    "const loop = () => { for (;;); }; console.log(new Proxy({ a: 1 }, { get: loop, ownKeys: loop, getPrototypeOf: loop, has: loop }))",
  "toString loops": "console.log('%s', { toString() { for (;;); } })",
  "toJSON loops": "console.log('%j', { toJSON() { for (;;); } })",
  "an inspection of the guest's own loops": "console.log({ [Symbol.for('nodejs.util.inspect.custom')]() { for (;;); } })",
  "a getter in a table loops": "console.table([{ get a() { for (;;); } }])",
  "toString throws": "try { console.log('%s', { toString() { throw new Error('mine'); } }) } catch (error) { console.log(error.message) }",
  "a label that is an object": "console.count({ toString: () => 'label' }); console.countReset(); console.time(Symbol.iterator.description)",
  "replaced methods of the platform":
    "Array.prototype[Symbol.iterator] = Map.prototype.get = String.prototype.slice = () => { throw new Error('called'); }; console.log('%s %d', 'still', 1); console.count(); console.table([[1]]); console.group('g'); console.log('in')",
  "a text of many lines and control characters": "console.log('first\\nsecond\\r\\u001b[2Jthird\\u0000')",
  "groups without end": "for (let i = 0; i < 100000; i++) console.group(); console.log('text')",
  "a large table": "console.table(Array.from({ length: 2000 }, (_, i) => ({ id: i, text: 'x'.repeat(50) })))",
  "a large text": "console.log('x'.repeat(5_000_000))",
  "a large array": "console.log(new Array(1_000_000).fill({ a: { b: { c: 1 } } }))",
  "deep nesting": "let a = {}; for (let i = 0; i < 100000; i++) a = { a }; console.log(a); console.log('%j', [1])",
  "memory": "console.log('%s', { toString() { for (const all = [];;) all.push(new Array(100_000).fill(all)); } })",
};

for (const [name, program] of Object.entries(programs)) {
  const isolate = await sandbox.createIsolate({ console: "event", cpuLimitMs: cpuLimitMs(name) });
  const lines = [];
  const ended = new Promise((resolve) => isolate.onSystem("terminated", ({ reason }) => resolve(reason)));
  isolate.onSystem("console", ({ level, text }) => lines.push(`${level} ${text}`));
  const done = await Promise.race([
    isolate.evaluate(program).then(() => "done", (error) => `${error.name}`),
    ended,
  ]);
  const outcome = done === "done" ? done : await ended;
  console.log(`---- ${name}: ${outcome}`);
  for (const line of lines) {
    const shown = line.length > 400 ? `${line.slice(0, 60)}... ${line.length > 16_500 ? "too long" : "within bounds"}` : line;
    console.log(JSON.stringify(shown));
  }
  isolate.destroy();
}

// The stack of a trace names the place of the call.
const isolate = await sandbox.createIsolate({ console: "event" });
const traced = new Promise((resolve) => isolate.onSystem("console", resolve));
await isolate.evaluate("function place() { console.trace('at %s', 'once'); }\nplace()");
const { level, text } = await traced;
console.log(level, text.split("\n")[0], /\n    at place \(/.test(text));

// Elapsed time, as Node writes it.
const timed = [];
isolate.onSystem("console", ({ text }) => timed.push(text));
await isolate.evaluate("console.time('t'); console.timeLog('t', { a: 1 }); console.timeEnd('t'); console.timeEnd('t')");
console.log(timed.map((line) => line.replace(/[\d.]+ms/, "N ms")).join(" | "));
sandbox.shutdown();
