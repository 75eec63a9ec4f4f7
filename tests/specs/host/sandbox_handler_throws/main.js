// What a handler throws is an uncaught error of the host: the run ends, its isolates with it.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
worker.on("event", function handler(data) {
  throw new TypeError(`cannot handle ${data}`);
});
worker.execute("NETWORK.send('event', 7); setInterval(() => {}, 1000)");
