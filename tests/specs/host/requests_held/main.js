// Requests that a slow handler cannot take yet stay text: a guest with little memory that asks for much
// costs its host little, and others are answered meanwhile. `{}` is 2 bytes of text and 56 of heap.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guest = await sandbox.createIsolate({ memoryLimitMb: 64 });
const other = await sandbox.createIsolate();
const release = Promise.withResolvers();
let open = 0;
let most = 0;
for (const isolate of [guest, other]) {
  isolate.onRequest("slow", async (data) => {
    most = Math.max(most, ++open);
    await release.promise;
    open--;
    return data.length;
  });
  isolate.onRequest("quick", (data) => data.length);
}
const COUNT = 400;
console.log(await guest.evaluate(`
  globalThis.answered = [];
  const data = Array(100_000).fill({});
  for (let i = 0; i < ${COUNT}; i++) answered.push(NETWORK.request("slow", data));
  "asked"`));
console.log("with the handler:", most > 0, most < 20);
console.log(guest.stats().requests);
const answers = [];
for (let i = 0; i < 20; i++) answers.push(await other.evaluate(`NETWORK.request("quick", [{}, ${i}])`));
console.log(answers.every((length) => length === 2));
console.log(await other.evaluate(`NETWORK.request("quick", Array(5_000).fill({}))`));
release.resolve();
console.log(await guest.evaluate(`Promise.all(answered).then((all) => [all.length, all.every((n) => n === 100_000)])`));
console.log("never more at once:", most < 20, open, guest.stats().requests);
sandbox.shutdown();
