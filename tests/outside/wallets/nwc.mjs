// A wallet for Nostr Wallet Connect by @getalby/sdk, whose money is that of a wallet of LNbits:
//
//     node service.mjs RELAY LNBITS ADMINKEY
//
// Writes the URL of the connection, and a line for each payment that it is asked for.
import WebSocket from "ws";
import { NWCWalletService, NWCWalletServiceKeyPair } from "@getalby/sdk";
import { generateSecretKey, getPublicKey } from "nostr-tools";

globalThis.WebSocket = WebSocket;
const [relayUrl, base, adminKey] = process.argv.slice(2);
const hex = (bytes) => Buffer.from(bytes).toString("hex");

async function lnbits(method, path, body) {
  const headers = { "x-api-key": adminKey, "content-type": "application/json" };
  const answer = await fetch(`${base}/api/v1/payments${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { ok: answer.ok, value: await answer.json() };
}

// A payment of LNbits in the words of NIP-47.
function transaction(payment, type) {
  return {
    type,
    state: payment.status === "success" ? "settled" : payment.status,
    invoice: payment.bolt11,
    description: payment.memo ?? "",
    description_hash: "",
    preimage: payment.preimage ?? "",
    payment_hash: payment.payment_hash,
    amount: Math.abs(payment.amount),
    fees_paid: Math.abs(payment.fee ?? 0),
    settled_at: 0,
    created_at: 0,
    expires_at: 0,
  };
}

const wallet = generateSecretKey();
const client = generateSecretKey();
const service = new NWCWalletService({ relayUrl });
const keys = new NWCWalletServiceKeyPair(hex(wallet), getPublicKey(client));
await service.publishWalletServiceInfoEvent(hex(wallet), ["pay_invoice", "make_invoice", "lookup_invoice"], []);
await service.subscribe(keys, {
  async payInvoice({ invoice }) {
    console.log("asked to pay", invoice);
    // Its own budget: 13 sat are unlucky.
    if (/^ln[a-z]+130n1/.test(invoice)) {
      return { result: undefined, error: { code: "QUOTA_EXCEEDED", message: "the budget does not allow 13 sat" } };
    }
    const { ok, value } = await lnbits("POST", "", { out: true, bolt11: invoice });
    if (!ok) return { result: undefined, error: { code: "PAYMENT_FAILED", message: value.detail } };
    return { result: { preimage: value.preimage, fees_paid: 1000 } };
  },
  async makeInvoice({ amount, description }) {
    const { value } = await lnbits("POST", "", { out: false, amount: amount / 1000, memo: description });
    return { result: transaction(value, "incoming") };
  },
  async lookupInvoice({ payment_hash: hash }) {
    const { ok, value } = await lnbits("GET", `/${hash}`);
    if (!ok) return { result: undefined, error: { code: "NOT_FOUND", message: "no such payment" } };
    const status = value.paid ? "success" : value.details.status;
    const type = value.details.amount < 0 ? "outgoing" : "incoming";
    return { result: transaction({ ...value.details, status, preimage: value.preimage }, type) };
  },
});
console.log(
  `nostr+walletconnect://${getPublicKey(wallet)}?relay=${encodeURIComponent(relayUrl)}&secret=${hex(client)}`,
);
