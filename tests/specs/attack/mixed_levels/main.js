// Every level in one sandbox, side by side, and what strict leaves out.
// Elapsed time has no limit: on a busy machine it could be over before the CPU time is.
const sandbox = new V8Sandbox({ cpuLimitMs: 500, wallLimitMs: 0 });
const guests = [];
for (const options of [
  { isolation: "thread" },
  { isolation: "process" },
  { isolation: "container" },
  { isolation: "container", wx: "strict" },
  { isolation: "process", group: "a" },
  { isolation: "process", group: "a" },
]) guests.push(await sandbox.createIsolate(options));
console.log(await Promise.all(guests.map((guest) => guest.evaluate("typeof WebAssembly"))));
console.log(await Promise.all(guests.map((guest) => guest.evaluate(`[eval("1 + 1"), new Function("return 2")(), /a+/.test("aa")].join()`))));
// Not one of them can be ended by V8; behind a process each is gone with its worker.
const ends = await Promise.all(guests.slice(1, 4).map((guest) => {
  const ended = new Promise((resolve) => guest.onSystem("terminated", ({ reason }) => resolve(reason)));
  guest.execute(`new Array(2 ** 32 - 1).fill(1)`);
  return ended;
}));
console.log(ends);
console.log(await guests[0].evaluate("1"), await guests[4].evaluate("2"), await guests[5].evaluate("3"));
console.log("abandoned:", sandbox.abandonedCount());
for (const [options, what] of [
  [{ isolation: "thread", wx: "strict" }, "strict"],
  [{ isolation: "thread", group: "a" }, "group"],
]) {
  console.log(what, await sandbox.createIsolate(options).then(() => "started", (error) => error.constructor.name));
}
sandbox.shutdown();
