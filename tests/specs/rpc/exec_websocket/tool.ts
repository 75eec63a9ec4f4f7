// There is no host that opens WebSockets: they fail, and say why.
const socket = new WebSocket("wss://a.example/");
socket.onerror = (event): void => {
  console.log(event.type, socket.readyState, event.constructor === Event);
  console.log(event.message);
};
await new Promise<void>((resolve) => {
  socket.onclose = ({ code, reason, wasClean }): void => {
    console.log("close", code, wasClean);
    console.log(reason);
    resolve();
  };
});
