// The end of a WebSocket reaches its guest even if its queue is full when the end comes.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = () => {
    // Nobody listens to these: they stay in the queue.
    try {
      for (let sent = 0; sent < 1_000_000; sent++) guest.send("fill");
    } catch (error) {
      console.log("full:", error.name);
    }
    socket.close(4000, "the end");
  };
  return response;
});
guest.allowWebSocket(() => true);
console.log(await guest.evaluate(`new Promise((resolve) => {
  const socket = new WebSocket("ws://127.0.0.1:${server.addr.port}/");
  let received = 0;
  socket.onopen = () => {
    socket.send("go");
    // Nothing of the host reaches a guest whose queue is full: it listens of its own accord, long after that on a busy machine.
    setTimeout(() => NETWORK.on("fill", () => received++), 4000);
  };
  socket.onclose = ({ code, reason }) => resolve([code, reason, received > 1000]);
})`));
sandbox.shutdown();
await server.shutdown();
