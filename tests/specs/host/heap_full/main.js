// A host that keeps what one guest replies until its heap is full: the guest is ended, the host goes on and
// so does everybody else.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guest = await sandbox.createIsolate();
const other = await sandbox.createIsolate();
await other.evaluate("1");
const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
const call = () => guest.evaluate("Array(1_000_000).fill({})");
let replies = await Promise.allSettled(Array.from({ length: 64 }, call));
const { reason, detail } = await ended;
console.log(reason, detail);
const kept = replies.filter(({ status }) => status === "fulfilled").length;
console.log("some were kept:", kept > 4, "and not all:", kept < 64);
console.log(await other.evaluate(`"the other is alive"`));
replies = undefined;
// Once that has been collected there is room for much again.
for (let length; length === undefined;) {
  length = await other.evaluate(`Array(300_000).fill({})`).then((list) => list.length, () => undefined);
  if (length !== undefined) console.log(length);
  else await new Promise((resolve) => setTimeout(resolve, 10));
}
sandbox.shutdown();
