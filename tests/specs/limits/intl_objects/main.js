// Objects of `Intl` that are kept: each holds kilobytes outside V8's heap, which count against the limit. Those
// that are not kept are collected in time.
const limits = { memoryLimitMb: 64, cpuLimitMs: 30_000, wallLimitMs: 100_000 };
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(Deno.readTextFileSync("/proc/self/status"))[1]) / 1024;

const kinds = {
  DateTimeFormat: `new Intl.DateTimeFormat("ar-EG", { dateStyle: "full" })`,
  NumberFormat: `new Intl.NumberFormat("de", { style: "currency", currency: "EUR" })`,
  Collator: `new Intl.Collator("sv")`,
  Segmenter: `new Intl.Segmenter("th", { granularity: "word" }).segment("x".repeat(1000))`,
  RelativeTimeFormat: `new Intl.RelativeTimeFormat("pl")`,
  DisplayNames: `new Intl.DisplayNames("hi", { type: "region" })`,
};
const before = peak();
const sandbox = new V8Sandbox(limits);
for (const [name, make] of Object.entries(kinds)) {
  const guest = await sandbox.createIsolate();
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.execute(`globalThis.all = []; for (;;) all.push(${make});`);
  const { reason, memoryMb } = await ended;
  console.log(name, reason, memoryMb > 32 || memoryMb);
}
const guest = await sandbox.createIsolate();
const harmless = await guest.evaluate(`
  let last;
  for (let i = 0; i < 3000; i++) last = new Intl.DateTimeFormat("ar-EG", { dateStyle: "full" }).format(0);
  last.length > 5`);
console.log("harmless:", harmless, guest.destroyed);
sandbox.shutdown();
const grown = peak() - before;
console.log("the host grew by far less than a guest could take:", grown < 600 || grown);
