// A guest above its rates is slowed down: nothing is lost, nothing overtakes. Too many requests reject.
const sandbox = new V8Sandbox({ cpuLimitMs: 0 });
const flood = `for (let i = 0; i < 60; i++) NETWORK.send("n", i); NETWORK.send("end", 0)`;
for (const limits of [{ ioOpsPerSecond: 40 }, { ioBytesPerSecond: 4096 }, {}]) {
  const guest = await sandbox.createIsolate(limits);
  const got = [];
  guest.on("n", (n) => got.push(n));
  const ended = new Promise((resolve) => guest.on("end", resolve));
  const neighbour = await sandbox.createIsolate();
  guest.execute(flood);
  console.log(await neighbour.evaluate("6 * 7"));
  await ended;
  console.log(Object.keys(limits), got.length, got.every((n, i) => n === i));
}
const guest = await sandbox.createIsolate({ maxPendingRequests: 4 });
const answers = [];
guest.onRequest("wait", () => new Promise((resolve) => answers.push(resolve)));
const outcome = guest.evaluate(`Promise.all([1, 2, 3, 4, 5, 6].map((n) =>
  NETWORK.request("wait", n).then((value) => value, (error) => error.message)))`);
while (answers.length < 4) await new Promise((resolve) => setTimeout(resolve, 5));
answers.forEach((answer, i) => answer(i));
console.log(await outcome);
console.log(await guest.evaluate("1 + 1"));
sandbox.shutdown();
