// A host with isolates that a debugger pauses; `steps` are called by the debugger.

const sandbox = new V8Sandbox();
const limits = { cpuLimitMs: 200, wallLimitMs: 1000, isolation: Deno.args[0] };
const create = (name, more) => sandbox.createIsolate({ name, ...limits, ...more });
const say = (name, reply) =>
  reply.then(
    (value) => console.log(name, value),
    (error) => console.log(`${name} failed: ${error.message}`),
  );

const paused = await create("paused");
const second = await create("second");
const left = await create("left");
const destroyed = await create("destroyed");
const talks = await create("talks", { console: "event", cpuLimitMs: 0, wallLimitMs: 0 });
talks.onSystem("console", ({ level, text }) => {
  if (level === "warn" && text.startsWith("text ")) console.log(`talks printed ${text}`);
});
const busy = await create("busy", { wallLimitMs: 0 });

const talk = `// A guest
let runs = 0;
const shown = { get side() { return ++runs; }, toString: () => 'text ' + ++runs, deep: { deeper: [1, { deepest: 'found' }] } };
function inner() {
  console.log('an object', shown, 42);
}
inner();
console.warn('%s of 100%%', shown, { rest: true });
console.count('times');
console.error('x'.repeat(1e6));
console.table([{ a: 1 }]);
console.assert(false, 'no');
const { log } = console;
[runs, typeof log.prototype, String(log), log.name].join()`;

const keepAlive = setInterval(() => {}, 1000);

globalThis.steps = {
  pause() {
    say("second", second.evaluate("const before = 20; before + 22"));
    say("paused", paused.evaluate("const before = 20; debugger; before + 22"));
  },
  walk: () => void say("walked", second.evaluate("let a = 1;\na += 1;\na += 40;\na")),
  leave: () => void say("left", left.evaluate("debugger; 'went on'")),
  hold: () => void say("destroyed", destroyed.evaluate("debugger; 'went on'")),
  destroy: () => destroyed.destroy(),
  loop: () => void say("busy", busy.evaluate("for (;;);")),
  talk: () => void say("talked", talks.evaluate(talk)),
  flood: () => void say("flooded", talks.evaluate("for (let at = 0; at < 2500; at++) log({ at }); console.trace('end')")),
  end() {
    clearInterval(keepAlive);
    sandbox.shutdown();
  },
};
console.log("ready");
