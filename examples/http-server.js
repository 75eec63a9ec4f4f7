// A guest answers HTTP: it has no socket, and the host decides where to listen.
//
//   stockade run examples/http-server.js

const shop = `
  const stock = new Map([["tea", 3]]);
  export default {
    async fetch(request, env, ctx) {
      const item = new URL(request.url).pathname.slice(1);
      if (!stock.has(item)) return new Response("no such item\\n", { status: 404 });
      if (request.method === "POST") {
        stock.set(item, stock.get(item) - 1);
        ctx.waitUntil(env.sold(item));
      }
      return new Response(stock.get(item) + " left\\n");
    },
  };`;

const sandbox = new V8Sandbox({ memoryLimitMb: 64 });
const guest = await sandbox.createIsolate({
  modules: { main: shop },
  serve: { concurrentRequests: 50, responseTimeoutMs: 5_000, maxBodyBytes: 64 * 1024 },
  env: { sold: (item) => console.log("sold:", item) },
});

// Clients reach the guest at an address, until `shutdown` or the guest's end.
const server = await guest.listen({ hostname: "127.0.0.1", port: 0 });
const url = `http://127.0.0.1:${server.addr.port}`;
console.log((await (await fetch(`${url}/tea`, { method: "POST" })).text()).trim());
console.log((await fetch(`${url}/coffee`)).status);

// The host's own requests need no socket.
console.log((await (await guest.fetch("http://shop/tea")).text()).trim());

// The end of the guest ends its server.
guest.execute("for (;;);");
console.log("ended:", (await server.finished).split(" ")[0]);
