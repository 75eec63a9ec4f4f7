// Messages wait while asynchronous handlers of earlier ones still hold enough; they then come in order, none
// is lost. What a handler reads meanwhile, such as a stream, does not wait behind them.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guest = await sandbox.createIsolate({ memoryLimitMb: 128 });
const COUNT = 300;
const release = Promise.withResolvers();
const all = Promise.withResolvers();
const order = [];
let open = 0;
let most = 0;
guest.on("job", async ([n, stream, ...objects]) => {
  most = Math.max(most, ++open);
  order.push(n);
  if (stream) {
    let text = "";
    for await (const chunk of stream) text += new TextDecoder().decode(chunk);
    console.log("stream:", text, "at work:", open < 20);
    release.resolve();
  }
  await release.promise;
  open--;
  if (objects.length !== 100_000) throw new Error("damaged");
  if (order.length === COUNT && open === 0) all.resolve();
});
guest.execute(`
  const objects = Array(100_000).fill({});
  let sent = false;
  const stream = new ReadableStream({
    async pull(controller) {
      // Not before everything was sent.
      while (!sent) await new Promise((resolve) => setTimeout(resolve, 1));
      controller.enqueue(new TextEncoder().encode("behind the flood"));
      controller.close();
    },
  }, { highWaterMark: 0 });
  for (let n = 0; n < ${COUNT}; n++) NETWORK.send("job", [n, n === 0 ? stream : null, ...objects]);
  sent = true;
`);
await all.promise;
console.log(order.length, order.every((n, i) => n === i), most < 20, open);
sandbox.shutdown();
