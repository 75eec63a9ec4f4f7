// Addresses that would reach something if a guest had a network: nothing arrives, the host decides.
const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
let arrived = 0;
(async () => {
  for await (const connection of server) {
    arrived++;
    connection.close();
  }
})();
const { port } = server.addr;
const addresses = [
  `http://127.0.0.1:${port}/`,
  `http://localhost:${port}/`,
  `http://[::1]:${port}/`,
  `http://[::ffff:127.0.0.1]:${port}/`,
  `http://2130706433:${port}/`,
  `http://0x7f.1:${port}/`,
  `http://0177.0.0.1:${port}/`,
  `http://0.0.0.0:${port}/`,
  "http://169.254.169.254/latest/meta-data/",
  "http://[fe80::1]/",
  "file:///etc/passwd",
  "data:text/plain,hello",
];
const code = `(async (addresses) => {
  const outcomes = [];
  for (const address of addresses) {
    outcomes.push(await fetch(address).then((r) => r.text(), (e) => e.constructor.name));
  }
  return outcomes;
})(${JSON.stringify(addresses)})`;

const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
console.log("without a handler:", await guest.evaluate(code));
const control = await sandbox.createIsolate();
const asked = [];
control.onRequest("fetch", ({ url }) => {
  asked.push(new URL(url).hostname);
  return new Response(`the host says no to ${new URL(url).protocol}`, { status: 403 });
});
const outcomes = await control.evaluate(code);
console.log("with one:", outcomes.filter((text) => text.startsWith("the host says no")).length, "of", addresses.length);
control.allowWebSocket(() => false);
console.log("socket:", await control.evaluate(`new Promise((resolve) => {
  const socket = new WebSocket("ws://127.0.0.1:${port}/");
  socket.onopen = () => resolve("open");
  socket.onerror = socket.onclose = () => resolve("closed");
})`));
console.log("the host received:", asked.includes("127.0.0.1"), asked.includes("169.254.169.254"));
console.log("connections:", arrived);
sandbox.shutdown();
server.close();
