// WebSockets of a guest: the host allows each URL and owns the real sockets.
//
//   stockade run examples/websocket-gateway.js
//
// It runs a server of its own on the loopback interface and needs no network.

const server = Deno.serve({ hostname: '127.0.0.1', port: 0, onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(`${data}!`);
  return response;
});

const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate({ env: { chat: `ws://127.0.0.1:${server.addr.port}/chat` } });

worker.allowWebSocket((url) => {
  const { hostname, pathname } = new URL(url);
  console.log('host: asked for', pathname);
  return hostname === '127.0.0.1' && pathname === '/chat';
});

worker.execute(`
  function talk(url) {
    return new Promise((resolve) => {
      const socket = new WebSocket(url);
      const received = [];
      socket.onopen = () => { socket.send('hello'); socket.send('goodbye'); };
      socket.onmessage = ({ data }) => {
        received.push(data);
        if (received.length === 2) socket.close(1000, 'done');
      };
      socket.onerror = ({ message }) => received.push(message.replace(/:\\d+/, ':PORT'));
      socket.onclose = ({ code }) => resolve({ received, code });
    });
  }
`);
console.log('guest:', await worker.evaluate(`talk(NETWORK.env.chat)`));
console.log('guest:', await worker.evaluate(`talk(NETWORK.env.chat.replace('chat', 'admin'))`));

sandbox.shutdown();
await server.shutdown();
