// A Blob that cannot be read is not sent, and does not stay in what a socket has buffered.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const emit = (conn_id, event_type, data) => guest.send("__ws_event", { conn_id, event_type, data });
guest.onSystem("error", ({ name }) => console.log("error:", name));
guest.on("ws.open", ({ conn_id }) => emit(conn_id, "open"));
guest.on("ws.send", ({ conn_id, data }) => emit(conn_id, "message", data));
guest.on("ws.close", ({ conn_id }) => emit(conn_id, "close"));
console.log(await guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/");
  socket.onopen = () => {
    const lost = new Blob(["12345"]);
    const parts = Object.getOwnPropertySymbols(lost).find((key) => key.description === "Parts");
    lost[parts] = [{ _id: "gone", size: 5 }];
    socket.send(lost);
    socket.send("abc");
    log.push(socket.bufferedAmount);
  };
  socket.onmessage = ({ data }) => { log.push(data, socket.bufferedAmount); socket.close() };
  socket.onclose = () => resolve(log);
})`));
sandbox.shutdown();
