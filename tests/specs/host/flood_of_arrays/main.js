// A guest that sends what is dear to read as fast as it can holds up neither the host's timers nor another
// guest: a turn is counted in time, and the next one is that of the isolate that has had least.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const flood = await sandbox.createIsolate();
const quiet = await sandbox.createIsolate();
let arrived = 0;
const first = new Promise((resolve) =>
  flood.on("arrays", (arrays) => {
    if (arrays.length !== 16_384) throw new Error("damaged");
    arrived++;
    resolve();
  })
);
flood.execute(`
  const arrays = Array.from({ length: 16_384 }, () => new Uint8Array(0));
  setInterval(() => { for (let i = 0; i < 20; i++) NETWORK.send("arrays", arrays) }, 1);
`);
await first;
quiet.execute(`NETWORK.on("ping", (n) => NETWORK.send("pong", n))`);
let pongs = 0;
const ponged = new Promise((resolve) =>
  quiet.on("pong", (n) => {
    pongs++;
    if (n < 50) quiet.send("ping", n + 1);
    else resolve();
  })
);
quiet.send("ping", 1);
let ticks = 0;
const ticked = new Promise((resolve) => {
  const tick = () => ++ticks < 50 ? setTimeout(tick, 1) : resolve();
  tick();
});
await Promise.all([ponged, ticked]);
const during = arrived;
console.log({ pongs, ticks });
// The flood is served, too.
await new Promise((resolve) => flood.on("arrays", () => arrived > during + 3 && resolve()));
console.log("and the flood arrives");
sandbox.shutdown();
