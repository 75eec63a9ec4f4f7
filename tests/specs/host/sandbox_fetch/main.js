// The guest's `fetch` through the host: checked, answered by objects, responses, bytes and streams.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
const get = (url, init = "undefined") =>
  worker.evaluate(`fetch(${JSON.stringify(url)}, ${init})
    .then(async (r) => [r.status, r.ok, r.headers.get("x-kind"), await r.text()], (e) => e.message)`);
console.log(await get("https://example.com/"));
worker.onRequest("fetch", async ({ url, method, headers, body }) => {
  const { hostname, pathname } = new URL(url);
  if (hostname !== "example.com") throw new Error(`${hostname} is not allowed`);
  switch (pathname) {
    case "/object":
      return { ok: true, status: 200, statusText: "OK", headers: { "x-kind": "object" }, body: "text" };
    case "/response":
      return new Response("response", { status: 404, headers: { "x-kind": "response" } });
    case "/stream":
      return { status: 200, headers: {}, body: ReadableStream.from(["a", "b", "c"]) };
    case "/bytes":
      return { status: 200, body: new Uint8Array([104, 105]) };
    case "/echo":
      return {
        status: 201,
        headers: { "x-kind": `${method} ${headers["x-a"]}` },
        body: body instanceof ReadableStream ? await new Response(body).text() : body,
      };
  }
});
for (const path of ["object", "response", "stream", "bytes"]) {
  console.log(await get(`https://example.com/${path}`));
}
console.log(await get("https://example.com/echo", "{ method: 'POST', body: 'text', headers: { 'x-a': '1' } }"));
console.log(await get("https://example.com/echo", "{ method: 'PUT', body: ReadableStream.from(['s', 't']).pipeThrough(new TextEncoderStream()), duplex: 'half' }"));
console.log(await get("https://evil.example/"));
sandbox.shutdown();
