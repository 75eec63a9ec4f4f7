// Messages arrive in the order they were sent, in both directions and among several events.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const COUNT = 5000;
const got = [];
const done = new Promise((resolve) => guest.on("end", resolve));
guest.on("a", (n) => got.push(n));
guest.on("b", (n) => got.push(n));
guest.execute(`
  let next = 0, wrong = 0;
  const take = (n) => { if (n !== next++) wrong++; NETWORK.send(n % 2 ? "a" : "b", n); };
  NETWORK.on("even", take);
  NETWORK.on("odd", take);
  NETWORK.on("end", () => NETWORK.send("end", { wrong, next }));
`);
for (let i = 0; i < COUNT; i++) guest.send(i % 2 ? "odd" : "even", i);
guest.send("end");
console.log(await done);
console.log(got.length, got.every((n, i) => n === i));

// A reply comes after the messages that the guest sent before it.
let early = 0;
for (let i = 0; i < 500; i++) {
  let seen = 0;
  const handler = () => seen++;
  guest.on("before", handler);
  await guest.evaluate(`for (let i = 0; i < 10; i++) NETWORK.send("before"); 1`);
  if (seen !== 10) early++;
  guest.off("before", handler);
}
console.log("replies that came too early:", early);
sandbox.shutdown();
