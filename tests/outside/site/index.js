// What the outside tools talk to.

const MEGABYTE = new Uint8Array(1 << 20).fill(97);

function seen(request, length) {
  return Response.json({
    method: request.method,
    url: request.url,
    headers: [...request.headers],
    length,
  });
}

async function count(body) {
  let length = 0;
  if (body) for await (const chunk of body) length += chunk.byteLength;
  return length;
}

function stream(bytes) {
  let left = bytes;
  return new ReadableStream({
    pull(controller) {
      if (left <= 0) return controller.close();
      const piece = MEGABYTE.subarray(0, Math.min(left, 65536));
      left -= piece.length;
      controller.enqueue(piece);
    },
  });
}

export default {
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/":
        return new Response("hello\n");
      case "/stream":
        return new Response(stream(Number(url.searchParams.get("bytes") ?? 1 << 20)));
      case "/never":
        return new Promise(() => {});
      case "/socket": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.addEventListener("message", ({ data }) => server.send(data));
        return new Response(null, { status: 101, webSocket: client });
      }
      default:
        return seen(request, await count(request.body));
    }
  },
};
