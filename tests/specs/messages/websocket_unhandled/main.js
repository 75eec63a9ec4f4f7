// A guest's WebSocket that no handler of the host takes fails at once, as a request without a handler does.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const open = `new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/");
  socket.onerror = ({ message }) => log.push(message, socket.readyState);
  socket.onclose = ({ code, wasClean }) => resolve([...log, code, wasClean]);
})`;
console.log(await guest.evaluate(open));
// What only looks like one disturbs nothing.
for (const data of [null, 1, {}, { conn_id: "x" }, { conn_id: 99 }]) {
  await guest.evaluate(`NETWORK.send("ws.open", ${JSON.stringify(data)})`);
}
// Events are handled in order: once this one is, those before it were.
const handled = new Promise((resolve) => guest.on("handled", resolve));
await guest.evaluate(`NETWORK.send("handled")`);
await handled;
guest.on("ws.open", ({ conn_id }) => guest.send("__ws_event", { conn_id, event_type: "error", data: "now there is one" }));
console.log(await guest.evaluate(open));
sandbox.shutdown();
