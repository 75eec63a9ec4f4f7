/** Counts visits in the state that all mirrors of the site share. */
async function count(state: StateNamespace): Promise<number> {
  for (;;) {
    const { value, version } = await state.getWithVersion("visits");
    const visits = (value ?? 0) + 1;
    // Null where another mirror was faster.
    if ((await state.put("visits", visits, { version: version ?? 0 })) !== null) return visits;
  }
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/":
        return new Response(`<!doctype html><title>site</title><h1>${env.GREETING}, visitor ${await count(env.STATE)}</h1>`, {
          headers: { "content-type": "text/html; charset=utf-8" },
        });
      case "/api/visits":
        return Response.json({ visits: (await env.STATE.get("visits")) ?? 0 });
      default:
        return new Response("Not found\n", { status: 404 });
    }
  },
} satisfies ExportedHandler<Env>;
