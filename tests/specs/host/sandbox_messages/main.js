// Messages: in order, none lost before a handler is there, taken off again, in both directions.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
worker.execute("for (let i = 0; i < 5; i++) NETWORK.send('early', i); NETWORK.send('other'); NETWORK.send('sent')");
await new Promise((resolve) => worker.on("sent", resolve));
const early = [];
const chained = worker.on("early", (n) => early.push(n));
console.log(chained === worker);
await new Promise((resolve) => worker.on("other", resolve));
console.log(early);

worker.execute("NETWORK.on('in', (data) => NETWORK.send('out', data))");
const seen = [];
const all = Promise.withResolvers();
const first = (data) => seen.push(data);
worker.on("out", first).on("out", (data) => {
  if (data === "end") all.resolve();
});
for (let i = 0; i < 1000; i++) worker.send("in", i);
worker.send("in", { nested: [true, null, "ä"] });
worker.send("in", { dropped: undefined, kept: 1 });
worker.send("in", new Uint8Array([9]));
worker.send("in");
worker.send("in", "end");
await all.promise;
console.log(seen.length, seen.slice(0, 1000).every((n, i) => n === i));
console.log(seen.slice(1000));
worker.off("out", first);
worker.send("in", "end");
worker.off("out");

const cycle = {};
cycle.self = cycle;
for (const data of [cycle, 1n, { deep: 2n }]) {
  try {
    worker.send("in", data);
  } catch (error) {
    console.log(error.name, error.message.split("\n")[0]);
  }
}
try {
  worker.on("x", "no function");
} catch (error) {
  console.log(error.message);
}
sandbox.shutdown();
