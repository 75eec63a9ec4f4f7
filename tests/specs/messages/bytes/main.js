// Bytes cross as bytes, wherever they are in the data.
const sandbox = new V8Sandbox({ cpuLimitMs: 20_000 });
const guest = await sandbox.createIsolate();
guest.onRequest("echo", (data) => data);
guest.execute(`
  NETWORK.on("echo", (data) => NETWORK.send("back", data));
  globalThis.sum = (bytes) => { let sum = 0; for (let i = 0; i < bytes.length; i += 4096) sum += bytes[i]; return [bytes.length, sum] };
`);
const echo = (data) =>
  new Promise((resolve) => {
    guest.off("back").on("back", resolve);
    guest.send("echo", data);
  });
console.log(await echo(new Uint8Array([0, 1, 255])));
console.log(await echo(new Uint8Array([1, 2, 3]).buffer));
console.log(await echo(new Uint8Array()));
console.log(await echo({ a: [new Uint8Array([1]), { b: new Uint8Array([2]).buffer }], c: "\0b0", d: "\0", e: "\0\0x", f: "plain" }));
console.log(await echo("\0b0"), await echo(["\0"]));
const part = new Uint8Array([1, 2, 3, 4]).subarray(1, 3);
console.log(await echo(part), (await echo(part)).buffer.byteLength);
// The sender's bytes stay the sender's.
const kept = new Uint8Array([9]);
const keptBack = echo(kept);
kept[0] = 1;
console.log(await keptBack);
// Other views have no bytes of their own in JSON.
console.log(await echo(new Uint16Array([1, 2])));
// Calls, their results, requests and their answers.
console.log(await guest.call("sum", new Uint8Array(4096).fill(7)));
console.log(await guest.evaluate(`({ bytes: new Uint8Array([5, 6]), text: "\\0b0" })`));
console.log(await guest.evaluate(`NETWORK.request("echo", [new Uint8Array([7]), "\\0a0"])`));
// A guest that writes marks itself gets its own text back.
console.log(await guest.evaluate(`NETWORK.request("echo", { a: "\\0b7", b: "\\0s0", c: "\\0a99999999999" })`));
// 64 MB, there and back.
const large = new Uint8Array(64 << 20);
for (let i = 0; i < large.length; i += 4096) large[i] = i >> 12;
const back = await echo(large);
console.log(back.length, await guest.call("sum", large));
let same = back.length === large.length;
for (let i = 0; i < back.length && same; i += 4096) same = back[i] === large[i];
console.log(same);
sandbox.shutdown();
