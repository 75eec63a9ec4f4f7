// A host that floods an isolate is refused with a clear error, and can wait for room. A guest that
// floods nobody's handler costs bounded memory.
const sandbox = new V8Sandbox({ cpuLimitMs: 0 });
const worker = await sandbox.createIsolate();
worker.execute("let n = 0; NETWORK.on('m', () => n++); globalThis.count = () => n");
let sent = 0;
let refused;
while (refused === undefined) {
  try {
    worker.send("m", sent);
    sent++;
  } catch (error) {
    refused = error;
  }
}
console.log(refused.message.replace(/\d+/g, "N"));
console.log(sent >= 1000);
await worker.drain();
worker.send("m");
console.log(await worker.call("count") === sent + 1);

const errors = [];
worker.onSystem("error", ({ message }) => errors.push(message));
worker.execute("for (let i = 0; i < 5000; i++) NETWORK.send('unheard', i); NETWORK.send('end')");
await new Promise((resolve) => worker.on("end", resolve));
console.log(errors);
const kept = [];
worker.on("unheard", (n) => kept.push(n));
await null;
console.log(kept.length, kept.at(-1));

const large = new Uint8Array(64 * 1024 * 1024);
large[large.length - 1] = 7;
worker.execute("globalThis.last = (bytes) => [bytes.length, bytes[bytes.length - 1]]");
console.log(await worker.call("last", large));
sandbox.shutdown();
