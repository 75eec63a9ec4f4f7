// Signs what it is sent as a note, with the signer that libraries for Nostr find as `globalThis.nostr`.

interface Env {
  ME: NostrSigner;
}

export default {
  async fetch(request: Request, env: Env) {
    if (request.method !== "POST") {
      return Response.json({ pubkey: await env.ME.getPublicKey(), relays: await env.ME.getRelays() });
    }
    const note = await env.ME.signEvent({
      kind: 1,
      created_at: Math.floor(Date.now() / 1000),
      tags: [],
      content: await request.text(),
    });
    return Response.json(note);
  },
};
