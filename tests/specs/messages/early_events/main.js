// What a guest's main module sends while it starts waits for its `Isolate` object, bytes included.
const sandbox = new V8Sandbox();
for (let i = 0; i < 20; i++) {
  const guest = await sandbox.createIsolate({
    modules: {
      "main.js": `
        NETWORK.send("first", { bytes: new Uint8Array([1, 2, 3]) });
        NETWORK.send("second", { bytes: new Uint8Array([4]), text: "x" });
        NETWORK.request("third", new Uint8Array([5, 6])).then((sum) => NETWORK.send("sum", sum));`,
    },
  });
  guest.onRequest("third", (bytes) => bytes[0] + bytes[1]);
  const got = [];
  await new Promise((resolve) => {
    for (const name of ["first", "second", "sum"]) {
      guest.on(name, (data) => {
        got.push(name, data);
        if (name === "sum") resolve();
      });
    }
  });
  if (i === 0) console.log(got);
  guest.destroy();
}
console.log("done");
sandbox.shutdown();
