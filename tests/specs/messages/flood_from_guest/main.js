// A guest that sends without end waits for a slow host: what waits stays bounded, nothing is lost.
const sandbox = new V8Sandbox({ cpuLimitMs: 60_000, wallLimitMs: 60_000 });
const guest = await sandbox.createIsolate();
const COUNT = 400;
let next = 0;
let wrong = 0;
let most = 0;
const done = new Promise((resolve) =>
  guest.on("flood", ({ n, text }) => {
    if (n !== next++ || text.length !== 1 << 20) wrong++;
    if (n % 20 === 0) most = Math.max(most, Deno.memoryUsage().rss);
    if (next === COUNT) resolve();
  })
);
guest.execute(`
  const text = "x".repeat(1 << 20);
  for (let n = 0; n < ${COUNT}; n++) NETWORK.send("flood", { n, text });
  NETWORK.send("sent");
`);
// A host that is busy while the flood rises.
const busy = Promise.withResolvers();
setTimeout(() => {
  const until = Date.now() + 300;
  while (Date.now() < until);
  busy.resolve();
}, 1);
await busy.promise;
await done;
console.log({ next, wrong }, "below 1.5 GB:", most < 1.5e9);
console.log(await guest.evaluate(`"alive"`));
sandbox.shutdown();
