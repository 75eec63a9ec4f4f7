// One message is bounded by what its values cost its host, not by its text alone; its sender gets an error.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guest = await sandbox.createIsolate();
guest.on("text", (text) => console.log("text", text.length));
guest.on("list", (list) => console.log("list", list.length));
guest.onRequest("much", (data) => data.length);
guest.execute(`
  // Few objects, named often: 186 MB of text.
  globalThis.much = Array(62_000).fill(Array(1000).fill({}));
  globalThis.shown = (error) => error.name + ": " + error.message.replace(/\\d+/g, "N");
`);
console.log(await guest.evaluate(`try { NETWORK.send("list", much) } catch (error) { shown(error) }`));
console.log(await guest.evaluate(`NETWORK.request("much", much).catch(shown)`));
await guest.evaluate(`much`).catch((error) => console.log("reply", error.name));
// The same in parts, and as much text as before.
const done = new Promise((resolve) => guest.on("done", resolve));
guest.execute(`
  for (let i = 0; i < 3; i++) NETWORK.send("list", much.slice(0, 1000));
  NETWORK.send("text", "{},".repeat(20_000_000));
  NETWORK.send("done");
`);
await done;
sandbox.shutdown();
