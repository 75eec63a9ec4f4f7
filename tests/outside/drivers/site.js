// A site that runs one client, and says what it found or how it failed. `driver` is put in its place by the bundler.
import run from "driver";

export default {
  async fetch(request, env) {
    const options = Object.fromEntries(new URL(request.url).searchParams);
    for (const key of ["port", "tlsPort"]) if (key in options) options[key] = Number(options[key]);
    try {
      return Response.json(await run(options, env));
    } catch (error) {
      return Response.json({ error: String(error?.stack ?? error), code: error?.code }, { status: 500 });
    }
  },
};
