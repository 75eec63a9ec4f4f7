// A guest's WebSocket as plain events, for hosts that do the plumbing themselves.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const emit = (conn_id, event_type, data) => guest.send("__ws_event", { conn_id, event_type, data });
guest.on("ws.open", ({ conn_id, url, protocols }) => {
  console.log("open", url, protocols);
  if (url.includes("refuse")) return emit(conn_id, "error", "refused");
  emit(conn_id, "open");
});
guest.on("ws.send", ({ conn_id, data }) => emit(conn_id, "message", data));
guest.on("ws.close", ({ conn_id, code, reason }) => {
  console.log("close", code, reason);
  emit(conn_id, "close", { code, reason });
});
console.log(await guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/path", ["chat"]);
  socket.binaryType = "arraybuffer";
  log.push(socket.readyState, socket.url);
  try { socket.send("too early") } catch (error) { log.push(error.name) }
  socket.onopen = () => { log.push("open", socket.readyState); socket.send("text"); socket.send(new Uint8Array([1, 2])) };
  socket.onmessage = ({ data, origin, isTrusted }) => {
    log.push(typeof data === "string" ? data : data.byteLength, origin, isTrusted);
    if (typeof data !== "string") socket.close(3001, "done");
  };
  socket.onclose = ({ code, reason, wasClean }) => { log.push(code, reason, wasClean, socket.readyState); resolve(log) };
})`));
console.log(await guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("ws://a.test/refuse");
  socket.onerror = ({ message }) => log.push(message);
  socket.onclose = ({ code }) => resolve([...log, code]);
})`));
console.log(await guest.evaluate(`["nope", "ftp://x/", "ws://x/#a"].map((url) => { try { new WebSocket(url) } catch (error) { return error.name } })`));
// Events of sockets that do not exist, and nonsense, disturb nothing.
for (const data of [null, 1, {}, { conn_id: 99, event_type: "open" }, { conn_id: 1, event_type: "nonsense" }]) guest.send("__ws_event", data);
console.log(await guest.evaluate(`"alive"`));
sandbox.shutdown();
