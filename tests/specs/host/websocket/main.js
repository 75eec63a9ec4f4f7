// A WebSocket server and its client in one script.
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request, { protocol: "chat" });
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
});
const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}`, ["chat"]);
socket.binaryType = "arraybuffer";
const next = (type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
await next("open");
console.log("open", socket.protocol);
socket.send("text");
console.log((await next("message")).data);
socket.send(new Uint8Array([1, 2]));
console.log(new Uint8Array((await next("message")).data));
socket.close(4000, "enough");
const { code, reason, wasClean } = await next("close");
console.log(code, reason, wasClean);
await server.shutdown();
