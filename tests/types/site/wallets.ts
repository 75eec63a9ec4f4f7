// Grants of keys and money.
interface Env {
  JWT: CryptoKey;
  ME: NostrSigner;
  CHAIN: Electrum;
  WALLET: LightningWallet;
}

export default {
  async fetch(_request: Request, env: Env) {
    const signature: ArrayBuffer = await crypto.subtle.sign("Ed25519", env.JWT, new Uint8Array(1));
    const event = await env.ME.signEvent({ kind: 1, created_at: 0, tags: [["t", "a"]], content: "" });
    const sealed: string = await env.ME.nip44.encrypt(event.pubkey, "a");
    for await (const header of env.CHAIN.headers()) console.log(header.height);
    const { confirmed } = await env.CHAIN.balance("bc1");
    const rate: number | null = await env.CHAIN.feeRate(2);
    const { preimage } = await env.WALLET.payInvoice({ invoice: "lnbc1" });
    const { paymentRequest } = await env.WALLET.webln.makeInvoice(21);
    // @ts-expect-error -- an event has a time
    await env.ME.signEvent({ kind: 1, tags: [], content: "" });
    // @ts-expect-error -- an amount in msat is a number
    await env.WALLET.makeInvoice({ amount: "1" });
    // @ts-expect-error -- it is known by its text or its hash
    await env.WALLET.lookupInvoice({});
    return Response.json({ signature, sealed, confirmed, rate, preimage, paymentRequest, sig: event.sig });
  },
} satisfies ExportedHandler<Env>;
