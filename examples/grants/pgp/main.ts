// Letters by OpenPGP. `env.PGP` works with a key that no code of the site can read.

interface Env {
  PGP: Pgp;
}

export default {
  async fetch(request: Request, env: Env) {
    const body = request.body ?? new Blob([]).stream();
    switch (new URL(request.url).pathname) {
      case "/key":
        return new Response(await env.PGP.publicKey());
      case "/sign":
        return new Response(await env.PGP.sign(body, { cleartext: true }));
      case "/encrypt":
        return new Response(await env.PGP.encrypt(body, { recipients: await env.PGP.publicKey(), sign: true }));
      case "/decrypt": {
        const { data, valid } = await env.PGP.decrypt(body, "text");
        return Response.json({ data, valid });
      }
      default:
        return new Response("there are /key, /sign, /encrypt and /decrypt\n", { status: 404 });
    }
  },
};
