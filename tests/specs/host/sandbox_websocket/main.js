// Real WebSockets for a guest, after a check.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
});
const base = `ws://127.0.0.1:${server.addr.port}`;
worker.allowWebSocket((url) => new URL(url).pathname === "/allowed");
console.log(await worker.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket("${base}/allowed");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    socket.send("text");
    socket.send(new Uint8Array([7]));
  };
  socket.onmessage = ({ data }) => {
    log.push(typeof data === "string" ? data : new Uint8Array(data)[0]);
    if (log.length === 2) socket.close(4001, "enough");
  };
  socket.onclose = ({ code, reason, wasClean }) => resolve([...log, code, reason, wasClean]);
})`));
const refused = await worker.evaluate(`new Promise((resolve) => {
  const socket = new WebSocket("${base}/other");
  let message;
  socket.onerror = (event) => message = event.message;
  socket.onclose = ({ code }) => resolve([message, code]);
})`);
console.log(refused[0].replace(base, "ws://server"), refused[1]);
sandbox.shutdown();
await server.shutdown();
