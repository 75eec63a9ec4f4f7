// A guest's WebSockets: the host decides by URL and holds the real sockets.
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
      const heard = [];
      socket.onopen = () => { socket.send('hello'); socket.send('goodbye'); };
      socket.onmessage = ({ data }) => {
        heard.push(data);
        if (heard.length === 2) socket.close(1000, 'done');
      };
      socket.onerror = ({ message }) => heard.push(message.replace(/:\\d+/, ':PORT'));
      socket.onclose = ({ code }) => resolve({ heard, code });
    });
  }
`);
console.log('guest:', await worker.evaluate(`talk(NETWORK.env.chat)`));
console.log('guest:', await worker.evaluate(`talk(NETWORK.env.chat.replace('chat', 'admin'))`));

sandbox.shutdown();
await server.shutdown();
