// The run ends by itself once no isolate has anything to do, also without a shutdown.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
worker.on("tick", (n) => console.log("tick", n));
worker.execute(`
  let n = 0;
  const timer = setInterval(() => {
    NETWORK.send("tick", ++n);
    if (n === 3) clearInterval(timer);
  }, 2);
`);
console.log("script done");
