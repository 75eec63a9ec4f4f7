// The drop-in for isolated-vm: the example of its README, and what programs do with it.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, test } from "node:test";
import ivm from "stockade/drivers/isolated-vm";
import { Host } from "../lib/isolated-vm/host.js";

const stockade = { program: process.env.STOCKADE };
const isolate = new ivm.Isolate({ memoryLimit: 64, stockade });
const context = isolate.createContextSync();
after(() => isolate.dispose());

// It uses `require`, which Node 18 and some of 20 do not have for modules.
test("example_of_the_readme_runs", { skip: !process.features.require_module && "this Node cannot" }, () => {
  // As it is there, except for the options of Stockade and the program's output.
  const example = `
    const ivm = require('stockade/drivers/isolated-vm');
    const isolate = new ivm.Isolate({ memoryLimit: 128, stockade: { program: process.env.STOCKADE } });
    const context = isolate.createContextSync();
    const jail = context.global;
    jail.setSync('global', jail.derefInto());
    jail.setSync('log', function(...args) {
      console.log(...args);
    });
    context.evalSync('log("hello world")');
    const hostile = isolate.compileScriptSync(\`
      const storage = [];
      const twoMegabytes = 1024 * 1024 * 2;
      while (true) {
        const array = new Uint8Array(twoMegabytes);
        for (let ii = 0; ii < twoMegabytes; ii += 4096) {
          array[ii] = 1; // we have to put something in the array to flush to real memory
        }
        storage.push(array);
        log('I\\\\'ve wasted '+ (storage.length * 2)+ 'MB');
      }
    \`);
    hostile.run(context).catch(err => console.log(err.message));`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", example], { cwd: import.meta.dirname, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const lines = stdout.trim().split("\n");
  assert.deepEqual(lines.slice(0, 2), ["hello world", "I've wasted 2MB"]);
  assert.ok(lines.length < 70);
  assert.match(lines.at(-1), /memory limit|allocation failed/);
});

test("scripts_give_their_last_value_if_it_is_transferable", async () => {
  const script = isolate.compileScriptSync("globalThis.n = (globalThis.n ?? 0) + 1");
  assert.equal(script.runSync(context), 1);
  assert.equal(await script.run(context), 2);
  assert.equal(context.evalSync("({ a: 1 })"), undefined);
  assert.deepEqual(context.evalSync("({ a: [1, undefined, 2n, NaN, new Date(5), new Map([[1, 2]]), new Uint8Array([7])] })", { copy: true }), {
    a: [1, undefined, 2n, NaN, new Date(5), new Map([[1, 2]]), new Uint8Array([7])],
  });
  assert.equal(await context.eval("Promise.resolve(7)", { promise: true }), 7);
  context.evalSync("function later() { return 'later' } var kept = 1");
  assert.equal(context.evalSync("later() + kept"), "later1");
});

test("errors_keep_their_class_message_and_place", async () => {
  const thrown = (code, options) => {
    try {
      context.evalSync(code, options);
    } catch (error) {
      return error;
    }
  };
  const error = thrown("\n\nnull.x", { filename: "guest.js" });
  assert.ok(error instanceof TypeError);
  assert.match(error.stack, /guest\.js\b.*:3:6/);
  assert.ok(thrown("a b") instanceof SyntaxError);
  assert.equal(thrown("throw 5"), 5);
  assert.equal(thrown("throw { get stack() { throw 1 } }").message, "[object Object]");
  await assert.rejects(context.eval("Promise.reject(new RangeError('far'))", { promise: true }), RangeError);
});

test("references_read_write_and_call", async () => {
  const { global } = context;
  global.setSync("shop", { prices: { tea: 4 } }, { copy: true });
  const shop = global.getSync("shop");
  assert.equal(shop.typeof, "object");
  assert.equal(await (await shop.get("prices")).get("tea"), 4);
  assert.deepEqual(shop.copySync(), { prices: { tea: 4 } });
  shop.deleteSync("prices");
  assert.deepEqual(await shop.copy(), {});
  const add = context.evalSync("(a, b) => a + b", { reference: true });
  assert.equal(add.applySync(undefined, [1, 2]), 3);
  assert.deepEqual(add.applySync(undefined, [[1], [2]], { arguments: { copy: true }, result: { copy: true } }), "12");
  assert.throws(() => global.setSync("x", {}), /non-transferable/);
  add.release();
  assert.throws(() => add.applySync(undefined, []), /released/);
  assert.equal(new ivm.Reference(shop).deref(), shop);
});

test("closures_get_arguments", async () => {
  assert.equal(await context.evalClosure("return $0.length + $1", [new ivm.ExternalCopy([1, 2, 3]).copyInto(), 4]), 7);
  assert.throws(() => context.evalClosureSync("return {}"), /non-transferable/);
  assert.deepEqual(context.evalClosureSync("return { at: $0 }", [1], { result: { copy: true } }), { at: 1 });
});

test("functions_of_the_host_are_asynchronous_in_the_guest", async () => {
  const { global } = context;
  global.setSync("twice", (n) => n * 2);
  global.setSync("slow", async (n) => ({ n }));
  global.setSync("fail", () => { throw new RangeError("no"); });
  global.setSync("$add", new ivm.Reference((a, b) => a + b));
  assert.equal(await context.eval("twice(21)", { promise: true }), 42);
  assert.deepEqual(await context.eval("slow(1)", { promise: true, copy: true }), { n: 1 });
  assert.equal(await context.eval("fail().catch((e) => e.message)", { promise: true }), "no");
  assert.equal(await context.eval("$add.apply(undefined, [1, 2])", { promise: true }), 3);
  assert.throws(() => context.evalSync("$add.applySync(undefined, [1, 2])"), /fix: await reference\.apply/);
  const seen = [];
  global.setSync("note", new ivm.Callback((text) => seen.push(text), { ignored: true }));
  context.evalSync("note('one'); note('two')");
  assert.deepEqual(seen, ["one", "two"]);
});

test("calls_that_the_guest_forges_are_refused", async () => {
  const forged = "[undefined, null, 7, 'x', [], {}, { ticket: 99 }, { turn: 'x' }, { turn: null, id: 1 }]";
  const refused = `Promise.all(${forged}.map((one) => tools.call(one).catch((error) => error.name)))`;
  assert.deepEqual(await context.eval(refused, { promise: true, copy: true }), Array(9).fill("TypeError"));
  assert.throws(() => context.evalSync("10n ** 200000n", { copy: true }), /100,000 digits/);
  assert.equal(context.evalSync("1 + 1"), 2);
});

test("host_answers_every_call", async () => {
  const host = new Host();
  const answers = [];
  const id = host.add(() => 1);
  for (const params of [null, { turn: 3, id, args: [] }, { turn: 3, id, args: [] }, { turn: 1, id }]) {
    host.receive(params, (answer) => answers.push(answer.error?.message ?? answer.value));
  }
  host.end();
  assert.deepEqual(answers.slice(0, 2), ["there is no such call", "this is not the turn of a call"]);
  assert.deepEqual([answers.length, answers.at(-1)], [4, "Isolate is disposed"]);
});

test("timeout_ends_the_script_and_its_isolate", async () => {
  const other = new ivm.Isolate({ stockade });
  const there = await other.createContext();
  assert.equal(await there.eval("1", { timeout: 5000 }), 1);
  await assert.rejects(there.eval("for (;;);", { timeout: 100 }), /Script execution timed out/);
  assert.ok(other.isDisposed);
  await assert.rejects(there.eval("1"), /Isolate is disposed/);
});

test("contexts_share_nothing_and_belong_to_their_isolate", () => {
  const second = isolate.createContextSync();
  context.evalSync("globalThis.mine = 1");
  assert.equal(second.evalSync("typeof mine"), "undefined");
  assert.throws(() => second.global.setSync("other", context.global.derefInto()), /target isolate/);
  const other = new ivm.Isolate({ stockade });
  assert.throws(() => other.compileScriptSync("1").runSync(context), /Invalid context/);
  other.dispose();
  assert.throws(() => other.dispose(), /disposed/);
});

test("time_is_counted", () => {
  const before = isolate.cpuTime;
  context.evalSync("for (let i = 0; i < 1e7; i++);");
  assert.ok(isolate.cpuTime > before);
});

test("what_is_not_supported_says_what_to_do", () => {
  assert.throws(() => ivm.Isolate.createSnapshot([]), /fix: run the code/);
  assert.throws(() => isolate.compileModuleSync("1"), /fix: bundle/);
  assert.throws(() => isolate.getHeapStatisticsSync(), /fix: use Sandbox\.run/);
  assert.throws(() => new ivm.Isolate({ inspector: true }), /fix: leave it out/);
  assert.throws(() => context.global.setSync("ivm", ivm), /fix: pass functions/);
});
