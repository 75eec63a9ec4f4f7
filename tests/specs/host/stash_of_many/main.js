// What nobody handles is kept as text: nine guests that each fill what is kept for them cost their host
// that text, and what was kept comes in order to a handler that is added later.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guests = await Promise.all(Array.from({ length: 9 }, () => sandbox.createIsolate({ memoryLimitMb: 64 })));
const FLOOD = `
  const data = Array(340_000).fill({});
  for (let n = 0; n < 8; n++) { data[0] = n; NETWORK.send("nobody", data); }
  8`;
console.log(await Promise.all(guests.map((guest) => guest.evaluate(FLOOD))));
// Behind all of that, so it has been kept by now.
await Promise.all(guests.map((guest) => new Promise((resolve) => {
  guest.on("end", resolve);
  guest.execute(`NETWORK.send("end")`);
})));
const got = [];
guests[4].on("nobody", (data) => got.push([data[0], data.length]));
await null;
console.log(got.length >= 7, got.every(([n, length], i) => n === i && length === 340_000));
console.log(await guests[8].evaluate(`"alive"`));
sandbox.shutdown();
