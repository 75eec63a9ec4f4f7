// A guest that wants more of a wallet than it was granted, at every level. The control is a payment within the limits.

import { INVOICES, KEY, MAINNET, serve } from "../lightning/wallet.js";

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const wallet = serve();
  const folders = [await Deno.makeTempDir(), await Deno.makeTempDir()];
  const grant = (ledger, more) => ({
    lightning: { lnbits: { url: wallet.url, key: KEY }, network: "regtest", ledger, limits: { rate: 60 }, ...more },
  });
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      WALLET: grant(folders[0], { receive: false, spend: { payment: "10sat", day: "15sat", fee: "1% + 1sat" } }),
      RECEIVES: grant(folders[1], {}),
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { WALLET, RECEIVES } = NETWORK.env;
    const invoices = ${JSON.stringify(INVOICES)};
    const messages = [];
    const failed = (promise) => promise.then(() => "done", (error) => (messages.push(error.message), error.name));
    const pay = (invoice, amount) => failed(WALLET.payInvoice({ invoice, amount }));
    const tried = {
      control: await pay(invoices[0]),
      large: await pay(invoices[1]),
      otherAmount: await pay(invoices[2], 1),
      otherChain: await pay("${MAINNET}"),
      altered: await pay(invoices[2].replace("lnbcrt50n", "lnbcrt10n")),
      nonsense: await pay("lnbcrt1"),
      receive: await failed(WALLET.makeInvoice({ amount: 5000 })),
      spend: await failed(RECEIVES.payInvoice({ invoice: invoices[2] })),
      foreign: await failed(RECEIVES.lookupInvoice({ invoice: invoices[0] })),
      unknown: await failed(WALLET.lookupInvoice({ payment_hash: "00".repeat(32) })),
      own: await failed(Promise.resolve().then(() => new WALLET.constructor("WALLET"))),
      // With the largest fees the rest of the day is enough for one of them.
      day: (await Promise.all(invoices.slice(2, 6).map((invoice) => pay(invoice)))).sort(),
    };
    const flood = await Promise.all(Array.from({ length: 300 }, () => failed(RECEIVES.getBudget())));
    tried.flood = flood.includes("BusyError");
    tried.named = messages.some((message) => ["${KEY}", "127.0.0.1", "${wallet.port}"].some((part) => message.includes(part)));
    return tried;
  })()`);
  console.log(isolation, JSON.stringify(result), wallet.paid.size);
  isolate.destroy();
  await wallet.close();
  for (const folder of folders) await Deno.remove(folder, { recursive: true });
}
