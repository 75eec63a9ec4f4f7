// Passes on a page of the private network, and says how old the session with its peer is.

export default {
  async fetch(request, env) {
    const host = new URL(request.url).searchParams.get("host") ?? "wiki.office";
    try {
      const page = await fetch(`http://${host}/`, { redirect: "manual" });
      const [peer] = await env.OFFICE.status();
      return new Response(page.body, {
        status: page.status,
        headers: { "x-session-age": `${peer.sinceHandshake} ms` },
      });
    } catch (error) {
      return Response.json({ host, error: error.message }, { status: 502 });
    }
  },
};
