// Evaluates what it is sent, with `env` at hand. Only for these checks.
export default {
  async fetch(request, env) {
    const { code } = await request.json();
    try {
      const run = new Function("env", `return (async () => { ${code} })()`);
      return Response.json((await run(env)) ?? null);
    } catch (error) {
      return Response.json({ name: error?.name, message: error?.message });
    }
  },
};
