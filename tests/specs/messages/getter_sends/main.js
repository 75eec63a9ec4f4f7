// What a getter of a message sends while the message is encoded belongs to its own message alone. A getter may be
// read twice: to look for bytes, and to encode.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
guest.onSystem("terminated", ({ reason, detail }) => console.log("terminated", reason, detail));
const got = [];
guest.on("inner", (data) => got.push(["inner", data.z]));
guest.on("outer", (data) => got.push(["outer", data]));
const done = new Promise((resolve) => guest.on("done", resolve));
guest.execute(`
  const bytes = new Uint8Array([1, 2, 3]);
  const send = (z) => NETWORK.send("inner", { z });
  NETWORK.send("outer", { x: new Uint8Array([9]), get y() { send(bytes); return 1 } });
  NETWORK.send("outer", { t: "\\0s5", get y() { send(bytes); return 2 } });
  NETWORK.send("outer", { get y() { send(bytes); return "\\0b0" } });
  NETWORK.send("outer", { x: bytes, toJSON() { send("text"); return { as: bytes } } });
  NETWORK.send("done");
`);
await done;
for (const [name, data] of got) console.log(name, data);
sandbox.shutdown();
