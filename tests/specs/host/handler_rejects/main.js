// A rejection of an asynchronous handler is as uncaught as any other; one that is taken care of is not.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const caught = [];
const handled = new Promise((resolve) =>
  guest.on("handled", (data) => {
    const promise = new Promise((_, reject) => setTimeout(reject, 1, new Error(data)));
    promise.catch((error) => resolve(caught.push(error.message)));
    return promise;
  })
);
guest.execute(`NETWORK.send("handled", "taken care of")`);
await handled;
console.log(caught);
guest.on("bad", async (data) => {
  await null;
  throw new Error(`nobody caught ${data}`);
});
guest.execute(`NETWORK.send("bad", "this")`);
await new Promise(() => {});
