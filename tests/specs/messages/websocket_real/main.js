// `allowWebSocket`: the host's own sockets, for the URLs that it allows.
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request, { protocol: request.headers.get("sec-websocket-protocol") ?? undefined });
  socket.onmessage = ({ data }) => data === "bye" ? socket.close(4000, "as asked") : socket.send(data);
  return response;
});
const { port } = server.addr;
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({ env: { port } });
guest.allowWebSocket((url) => {
  const { pathname } = new URL(url);
  if (pathname === "/throws") throw new Error("the check failed");
  return pathname === "/echo";
});
const talk = (url, protocols = "undefined") => guest.evaluate(`new Promise((resolve) => {
  const log = [];
  const socket = new WebSocket(${url}, ${protocols});
  socket.onopen = () => { log.push("open", socket.protocol); socket.send("text"); socket.send(new Uint8Array([1, 2])); socket.send(new Blob(["blob"])) };
  let count = 0;
  socket.onmessage = async ({ data }) => {
    log.push(typeof data === "string" ? data : data instanceof Blob ? [...await data.bytes()] : "?");
    if (++count === 3) socket.send("bye");
  };
  socket.onerror = ({ message }) => log.push(message);
  socket.onclose = ({ code, reason, wasClean }) => resolve([...log, code, reason, wasClean]);
})`);
console.log(await talk("`ws://127.0.0.1:${NETWORK.env.port}/echo`"));
console.log((await talk("`ws://127.0.0.1:${NETWORK.env.port}/echo`", `["chat"]`))[1]);
console.log((await talk("`ws://127.0.0.1:${NETWORK.env.port}/other`")).map((item) => String(item).replace(port, "PORT")));
console.log(await talk("`ws://127.0.0.1:${NETWORK.env.port}/throws`"));
console.log((await talk("`ws://127.0.0.1:1/echo`")).at(-3));
sandbox.shutdown();
await server.shutdown();
