// Publishes a note and a private message through a relay with nostr-tools, signed by a key that the host holds.
import { SimplePool } from "nostr-tools/pool";
import { verifyEvent } from "nostr-tools/pure";

export default {
  async fetch(request: Request, env: any) {
    const { relay, other } = await request.json() as { relay: string; other: string };
    (globalThis as any).nostr = env.ME;
    const signer = (globalThis as any).nostr;
    const pool = new SimplePool();
    try {
      const pubkey = await signer.getPublicKey();
      const created_at = Math.floor(Date.now() / 1000);
      const note = await signer.signEvent({ kind: 1, created_at, tags: [["t", "stockade"]], content: "hello \u{1f30d}" });
      const message = await signer.signEvent({
        kind: 4,
        created_at,
        tags: [["p", other]],
        content: await signer.nip44.encrypt(other, "between us"),
      });
      await Promise.all(pool.publish([relay], note));
      await Promise.all(pool.publish([relay], message));
      const found = await pool.querySync([relay], { authors: [pubkey], kinds: [1] });
      const refused = await signer
        .signEvent({ kind: 5, created_at, tags: [], content: "" })
        .then(() => "signed", (error: Error) => error.message);
      return Response.json({
        pubkey,
        relays: await signer.getRelays(),
        valid: verifyEvent(note) && verifyEvent(message),
        found: found.map((event) => [event.id === note.id, event.content, verifyEvent(event)]),
        own: await signer.nip44.decrypt(other, message.content),
        refused,
        message,
      });
    } finally {
      pool.close([relay]);
    }
  },
};
