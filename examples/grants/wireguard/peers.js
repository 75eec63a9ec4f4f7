// Adds, lists and removes peers, and gives the files of clients. A real site asks its visitors who they are first.

export default {
  async fetch(request, env) {
    const { searchParams } = new URL(request.url);
    const key = searchParams.get("key");
    try {
      if (request.method === "POST") return Response.json(await env.VPN.addPeer());
      if (key === null) return Response.json(await env.VPN.peers());
      if (request.method === "DELETE") return Response.json(await env.VPN.removePeer(key));
      if (searchParams.has("qr")) {
        return new Response(await env.VPN.clientQr(key), { headers: { "content-type": "image/svg+xml" } });
      }
      return new Response(await env.VPN.clientConfig(key));
    } catch (error) {
      const status = { NotFound: 404, TypeError: 400, QuotaExceededError: 409 }[error.name] ?? 502;
      return Response.json({ error: error.message }, { status });
    }
  },
};
