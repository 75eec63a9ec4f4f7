// Letters by OpenPGP. `env.PGP` works with a key that no code of the site can read.

interface Checked {
  data: string;
  valid: boolean;
  signatures: { valid: boolean; fingerprint: string | null; created: Date | null }[];
}

interface Env {
  PGP: {
    publicKey(): Promise<string>;
    sign(data: ReadableStream, options: { cleartext: true }): Promise<string>;
    encrypt(data: ReadableStream, options: { recipients: string; sign: true }): Promise<string>;
    decrypt(message: ReadableStream, type: "text"): Promise<Checked>;
  };
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
