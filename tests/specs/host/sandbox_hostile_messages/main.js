// Whatever a guest sends where the host's runtime listens, the host goes on.
const sandbox = new V8Sandbox({ cpuLimitMs: 0 });
const worker = await sandbox.createIsolate();
worker.allowWebSocket(() => {
  throw new Error("never");
});
worker.onRequest("fetch", () => new Response("x"));
worker.execute(`
  const odd = [undefined, null, 0, "", [], {}, { conn_id: 1 }, { conn_id: {}, url: 7 },
    { conn_id: 1, url: "x", protocols: 5 }, { conn_id: 1, data: { a: 1 } }, { conn_id: 1, code: "x" }];
  for (const name of ["ws.open", "ws.send", "ws.close", "stream.pull", "__proto__", "constructor", ""]) {
    for (const data of odd) NETWORK.send(name, data);
  }
  for (const data of odd) NETWORK.request("fetch", data).catch(() => {});
  NETWORK.request("__proto__").catch(() => {});
  let deep = [];
  for (let i = 0; i < 100000; i++) deep = [deep];
  try { NETWORK.send("deep", deep); } catch {}
  NETWORK.send("poison", JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"x": 1}}}'));
  NETWORK.send("end");
`);
worker.on("poison", (data) => console.log(Object.keys(data), data.polluted, {}.polluted));
worker.on("deep", () => {});
await new Promise((resolve) => worker.on("end", resolve));
worker.execute("for (let i = 0; i < 200; i++) new WebSocket('ws://127.0.0.1:1/')");
console.log(await worker.evaluate("1 + 1"));
const stream = await worker.evaluate("new ReadableStream({ start(c) { c.enqueue(1); c.close(); } })");
await new Response(stream).text().catch((error) => console.log(error.name));
sandbox.shutdown();
