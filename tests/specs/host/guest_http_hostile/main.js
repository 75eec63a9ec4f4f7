// Hostile clients of a guest's server, and a hostile guest behind one: each costs what its limit allows, and a harmless
// request is answered after it.

const main = `
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/read":
        return new Response(String((await request.bytes()).length));
      case "/endless":
        return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65536)) }));
      case "/headers":
        return new Response("", { headers: { "x-large": "x".repeat(70_000) } });
      case "/split":
        return { status: 200, headers: [["a", "b\\r\\nc: d"]] };
      case "/upgrade":
        return new Response(null, { status: 101, webSocket: new WebSocketPair()[0] });
      case "/after":
        setTimeout(() => { throw new Error("after the response"); }, 1);
        return new Response("before");
      case "/hold":
        env.held();
        return await new Promise(() => {});
    }
    return new Response("harmless");
  },
};
`;

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  console.log(`--- ${isolation}`);
  let held = 0;
  const full = Promise.withResolvers();
  const isolate = await sandbox.createIsolate({
    isolation,
    modules: { main },
    serve: { maxBodyBytes: 100_000, maxResponseBytes: 1_000_000 },
    env: {
      held() {
        held++;
        if (held === 20) full.resolve();
      },
    },
  });
  const errors = [];
  isolate.onSystem("error", ({ message }) => errors.push(message));
  const server = await isolate.listen({
    port: 0,
    connections: 20,
    headerTimeoutMs: 1000,
    bodyTimeoutMs: 1000,
    writeTimeoutMs: 1000,
    idleTimeoutMs: 1000,
  });
  const { port } = server.addr;
  const harmless = async () => await (await fetch(`http://127.0.0.1:${port}/`)).text();
  const connect = () => Deno.connect({ hostname: "127.0.0.1", port });
  const write = async (connection, text) => {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  };
  // All that the server sends until it closes.
  const answerOf = async (connection) => {
    let text = "";
    const buffer = new Uint8Array(65536);
    try {
      for (;;) {
        const read = await connection.read(buffer);
        if (read === null) break;
        text += new TextDecoder().decode(buffer.subarray(0, read));
      }
    } catch {
      text += " (reset)";
    }
    connection.close();
    return text;
  };
  const statusOf = (text) => text.split(" ")[1] ?? "closed";

  // Headers without an end.
  const headers = await connect();
  try {
    await write(headers, "GET / HTTP/1.1\r\nhost: a\r\n");
    for (let i = 0; i < 10_000; i++) await write(headers, `x-${i}: ${"y".repeat(100)}\r\n`);
  } catch {
    // It was closed.
  }
  console.log("endless headers", ["431", "closed", "(reset)"].includes(statusOf(await answerOf(headers))));

  // A head that is not finished, and a client that says nothing.
  const half = await connect();
  await write(half, "GET / HTTP/1.1\r\nhost:");
  console.log("half a head", statusOf(await answerOf(half)));
  console.log("silent", statusOf(await answerOf(await connect())));

  // A body without an end, and one that stops.
  const body = await connect();
  const endless = answerOf(body);
  try {
    await write(body, "POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for (let i = 0; i < 10_000; i++) await write(body, `1000\r\n${"z".repeat(4096)}\r\n`);
  } catch {
    // It was closed.
  }
  console.log("endless body", ["413", "closed", "(reset)"].includes(statusOf(await endless)));
  const stops = await connect();
  await write(stops, "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 90000\r\n\r\nz");
  console.log("body that stops", statusOf(await answerOf(stops)));

  // Two readings of one request.
  const smuggled = await connect();
  await write(smuggled, "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
  console.log("ambiguous length", statusOf(await answerOf(smuggled)));

  // As many connections as may be: further ones are closed, and there is room again once others have closed.
  const many = await Promise.all(Array.from({ length: 20 }, connect));
  for (const one of many) await write(one, "GET /hold HTTP/1.1\r\nhost: a\r\n\r\n");
  await full.promise;
  const further = await Promise.all(Array.from({ length: 50 }, connect));
  console.log("flood of connections", new Set(await Promise.all(further.map(answerOf))).size);
  for (const one of many) one.close();
  const again = async () => await harmless().catch(again);
  console.log(await again());

  // A response without an end: cut at its limit; and one whose client does not read.
  const cut = await fetch(`http://127.0.0.1:${port}/endless`);
  await cut.bytes().catch(() => console.log("endless response is cut"));
  const unread = await connect();
  await write(unread, "GET /endless HTTP/1.1\r\nhost: a\r\n\r\n");
  console.log(await harmless());
  unread.close();

  // Responses that are none.
  for (const path of ["/headers", "/split", "/upgrade"]) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    await response.body?.cancel();
    console.log(path, response.status);
  }
  console.log(errors.splice(0).map((message) => message.slice(0, 60)));
  console.log(await (await fetch(`http://127.0.0.1:${port}/after`)).text());
  while (errors.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  console.log(errors);
  console.log(await harmless(), isolate.destroyed);
  await server.shutdown();
  isolate.destroy();
}
