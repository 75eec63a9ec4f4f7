// Where the mail of a domain goes, by its MX records (RFC 5321, 5.1).

export default {
  async fetch(request, env) {
    const domain = new URL(request.url).searchParams.get("domain") ?? "example.com";
    try {
      const records = await env.NAMES.resolve(domain, "MX");
      records.sort((a, b) => a.preference - b.preference);
      return Response.json({ domain, servers: records.map((record) => record.exchange) });
    } catch (error) {
      const status = { NotFound: 404, TypeError: 403, BusyError: 503 }[error.name] ?? 502;
      return Response.json({ domain, error: error.message }, { status });
    }
  },
};
