// An HTTPS server, and `fetch` with an authority of one's own.
const folder = new URL("../../../testdata/tls/", import.meta.url);
const read = (name) => Deno.readTextFileSync(new URL(name, folder));
const server = Deno.serve({
  port: 0,
  hostname: "127.0.0.1",
  cert: read("localhost.crt"),
  key: read("localhost.key"),
  onListen() {},
}, (request) => new Response(new URL(request.url).protocol));
const url = `https://localhost:${server.addr.port}/`;
const client = Deno.createHttpClient({ caCerts: [read("ca.crt")] });
console.log(await (await fetch(url, { client })).text());
client.close();
try {
  await fetch(url);
} catch (error) {
  console.log(error.name, error.message.length > 0);
}
await server.shutdown();
