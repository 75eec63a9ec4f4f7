// A wallet of a server, at every level: it receives, pays within its limits, and pays an invoice once.

import { INVOICES, KEY, serve } from "./wallet.js";

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const wallet = serve();
  const ledger = await Deno.makeTempDir();
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      WALLET: {
        lightning: {
          lnbits: { url: wallet.url, key: KEY },
          network: "regtest",
          spend: { payment: "10sat", day: "30sat", fee: "1% + 1sat" },
          ledger,
        },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { WALLET } = NETWORK.env;
    const invoice = "${INVOICES[0]}";
    const paid = await WALLET.payInvoice({ invoice });
    const again = await WALLET.webln.sendPayment(invoice);
    const made = await WALLET.makeInvoice({ amount: 5000, description: "tea" });
    return {
      paid,
      same: again.preimage === paid.preimage,
      left: [await WALLET.getBalance(), await WALLET.webln.getBalance()],
      used: (await WALLET.getBudget()).used_budget,
      listed: (await WALLET.listTransactions()).transactions.map(({ state, amount, fees_paid }) => [state, amount, fees_paid]),
      made: [made.amount, made.invoice === "${INVOICES.at(-1)}"],
      state: (await WALLET.lookupInvoice({ payment_hash: made.payment_hash })).state,
    };
  })()`);
  console.log(isolation, JSON.stringify(result), wallet.paid.size);
  isolate.destroy();
  await wallet.close();
  await Deno.remove(ledger, { recursive: true });
}
