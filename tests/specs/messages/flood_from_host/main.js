// A host that sends faster than the guest takes gets a clear error, and can wait for room.
const sandbox = new V8Sandbox({ cpuLimitMs: 60_000, wallLimitMs: 60_000 });
const guest = await sandbox.createIsolate();
const other = await sandbox.createIsolate();
guest.execute(`
  let count = 0;
  NETWORK.on("flood", () => count++);
  NETWORK.on("end", () => NETWORK.send("count", count));
  const until = Date.now() + 2500;
  while (Date.now() < until);
`);
let sent = 0;
let failure;
while (failure === undefined) {
  try {
    guest.send("flood", sent);
    sent++;
  } catch (error) {
    failure = error;
  }
}
console.log(failure?.name, failure?.message.replace(/\d{6,}/g, "N"));
console.log(await other.evaluate(`"the neighbour is fine"`));
await guest.drain();
const count = new Promise((resolve) => guest.on("count", resolve));
guest.send("end");
console.log("none lost:", await count === sent);
try {
  guest.send("large", new Uint8Array(193 << 20));
} catch (error) {
  console.log(error.message);
}
sandbox.shutdown();
