// What a guest's WebSocket says keeps its order while a Blob is read, and comes before the close.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const emit = (conn_id, event_type, data) => guest.send("__ws_event", { conn_id, event_type, data });
guest.on("ws.open", ({ conn_id, protocols }) => {
  console.log("open", protocols);
  emit(conn_id, "open");
});
guest.on("ws.send", ({ data }) => console.log("send", typeof data === "string" ? data : new TextDecoder().decode(data)));
guest.on("ws.close", ({ conn_id, ...close }) => {
  console.log("close", close);
  emit(conn_id, "close", close);
});
const talk = (body, protocols) => guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/", ${protocols});
  socket.onopen = () => { ${body} };
  socket.onerror = ({ message }) => log.push(message);
  socket.onclose = ({ code, reason, wasClean }) => resolve([...log, code, reason, wasClean, socket.bufferedAmount]);
})`);
console.log(await talk(`
  log.push(socket.bufferedAmount);
  socket.send(new Blob(["one"]));
  socket.send("zwö");
  socket.send(new Uint8Array([51]));
  socket.send(new Blob(["fo", "ur"]));
  log.push(socket.bufferedAmount);
  socket.close();
  socket.send("late");
  log.push(socket.bufferedAmount, socket.readyState);
`, `new Set(["a", "b"])`));
console.log(await talk(`socket.send("héllo"); log.push(socket.bufferedAmount); queueMicrotask(() => queueMicrotask(() => {
  log.push(socket.bufferedAmount);
  socket.close(undefined, "why");
}))`, `"one"`));
console.log(await talk(`socket.close(3000)`, `[]`));
// Closed before it is open, it has failed.
console.log(await guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/");
  socket.onerror = (event) => log.push(event.constructor === Event, event.message, socket.readyState);
  socket.onclose = ({ code, wasClean }) => resolve([...log, code, wasClean]);
  socket.close();
})`));
console.log(await guest.evaluate(`[["a", "a"], ["a", "A"], [""], "a b", new Set(["é"])].map((protocols) => {
  try { new WebSocket("ws://a.test/", protocols) } catch (error) { return error.name }
})`));
sandbox.shutdown();
