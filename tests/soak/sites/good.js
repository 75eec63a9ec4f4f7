// A site that does what sites do. Its answers say what they must be, so that a wrong one is seen.

const PIECE = new Uint8Array(16384).fill(120);

async function count(state) {
  for (;;) {
    const { value, version } = await state.getWithVersion("count", "json");
    const next = (value ?? 0) + 1;
    if (await state.put("count", next, { version }) !== null) return next;
  }
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/hello":
        return new Response(`hello ${url.searchParams.get("n")}`);
      case "/echo":
        return new Response(request.body, { headers: { "x-length": request.headers.get("content-length") ?? "" } });
      case "/stream": {
        let left = 16;
        return new Response(new ReadableStream({
          pull(controller) {
            if (left-- === 0) controller.close();
            else controller.enqueue(PIECE);
          },
        }));
      }
      case "/count":
        if (request.method === "POST") return Response.json(await count(env.STATE));
        return Response.json(await env.STATE.get("count", "json"));
      case "/note": {
        const key = `note/${url.searchParams.get("n")}`;
        if (request.method === "PUT") {
          await env.STATE.put(key, await request.text(), { ttl: 5 });
          return new Response(null, { status: 204 });
        }
        ctx.waitUntil(env.STATE.list({ prefix: "note/", limit: 10 }));
        return new Response(await env.STATE.get(key) ?? "none");
      }
      case "/other":
        return env.other.fetch("http://other/hello?n=" + url.searchParams.get("n"));
      case "/socket": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.addEventListener("message", ({ data }) => server.send(data));
        return new Response(null, { status: 101, webSocket: client });
      }
      default:
        return new Response("none", { status: 404 });
    }
  },
};
