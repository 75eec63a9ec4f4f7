// What arrives before a handler is registered waits for it, on either side, in order.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
for (const n of [1, 2, 3]) guest.send("early", n);
await guest.evaluate("1");
console.log("guest:", await guest.evaluate(`new Promise((resolve) => {
  const got = [];
  NETWORK.on("early", (n) => { got.push(n); if (n === 3) resolve(got) });
})`));

// A handler that no message of the host brings about, but a timer.
for (const n of [1, 2]) guest.send("late", n);
console.log("guest, later:", await guest.evaluate(`new Promise((resolve) => {
  const got = [];
  setTimeout(() => NETWORK.on("late", (n) => { got.push(n); if (n === 2) resolve(got) }), 10);
})`));

await guest.evaluate(`for (const n of [1, 2, 3]) NETWORK.send("early", n)`);
const got = [];
const last = new Promise((resolve) =>
  guest.on("early", (n) => {
    got.push(n);
    if (n === 4) resolve();
  })
);
guest.execute(`NETWORK.send("early", 4)`);
await last;
console.log("host:", got);

// More than may wait: reported once, as a system event.
const reported = new Promise((resolve) => guest.onSystem("error", resolve));
guest.execute(`for (let n = 0; n < 2000; n++) NETWORK.send("nobody", n)`);
console.log((await reported).message);

// `off` takes one handler away, and only that.
const log = [];
const taken = Promise.withResolvers();
const handler = (n) => log.push("removed", n);
guest.on("x", handler).on("x", (n) => {
  log.push("kept", n);
  taken.resolve();
}).off("x", handler);
guest.execute(`
  const one = () => NETWORK.send("x", "wrong");
  NETWORK.on("y", one); NETWORK.on("y", (n) => NETWORK.send("x", n)); NETWORK.off("y", one);`);
guest.send("y", 5);
await taken.promise;
console.log(log);
sandbox.shutdown();
