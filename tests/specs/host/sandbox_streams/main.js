// Streams cross in both directions, are read at the reader's pace, and can be given up.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
worker.execute(`
  NETWORK.on("stream", async (stream) => NETWORK.send("text", await new Response(stream).text()));
  globalThis.count = (n) => new ReadableStream({
    pull(controller) {
      if (n-- > 0) controller.enqueue(new Uint8Array([n]));
      else controller.close();
    },
  });
  globalThis.failing = () => new ReadableStream({ pull() { throw new Error("in the middle"); } });
`);
const text = new Promise((resolve) => worker.on("text", resolve));
worker.send("stream", ReadableStream.from(["a", "b", new Uint8Array([99])]));
console.log(await text);
const stream = await worker.call("count", 3);
const seen = [];
for await (const chunk of stream) seen.push(chunk[0]);
console.log(stream instanceof ReadableStream, seen);
const failing = await worker.call("failing");
await new Response(failing).text().catch((error) => console.log(error.name, error.message));
let pulled = 0;
const cancelled = Promise.withResolvers();
const endless = new ReadableStream({
  pull(controller) {
    pulled++;
    controller.enqueue("x");
  },
  cancel(reason) {
    cancelled.resolve(String(reason?.message ?? reason));
  },
}, { highWaterMark: 0 });
worker.execute(`NETWORK.on("endless", async (stream) => {
  const reader = stream.getReader();
  await reader.read();
  await reader.read();
  await reader.cancel(new Error("had enough"));
  NETWORK.send("done");
})`);
const done = new Promise((resolve) => worker.on("done", resolve));
worker.send("endless", endless);
await done;
const reason = await cancelled.promise;
console.log(pulled < 5, reason);
sandbox.shutdown();
