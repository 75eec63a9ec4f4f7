// A share of a core slows an isolate down, and does not end it.
const sandbox = new V8Sandbox({ cpuLimitMs: 0 });
const [quarter, whole] = [await sandbox.createIsolate({ cpuShare: 0.25 }), await sandbox.createIsolate()];
const work = `(() => { let x = 0; for (let i = 0; i < 1e8; i++) x = (x * 31 + i) | 0; return typeof x })()`;
for (const [name, guest] of [["quarter", quarter], ["whole", whole]]) {
  const start = performance.now();
  const before = guest.stats().cpuMs;
  console.log(name, await guest.evaluate(work));
  const share = (guest.stats().cpuMs - before) / (performance.now() - start);
  // Bounds that hold on a loaded machine too: a share is a ceiling.
  console.log(name, "below its share:", share < (name === "quarter" ? 0.6 : 1.1), guest.destroyed);
}
sandbox.shutdown();
