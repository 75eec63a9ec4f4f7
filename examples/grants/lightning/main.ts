// Makes invoices and pays them, within the limits of the grant.

interface Env {
  WALLET: LightningWallet;
}

async function answer(request: Request, env: Env): Promise<unknown> {
  switch (new URL(request.url).pathname) {
    case "/invoice":
      return await env.WALLET.webln.makeInvoice({ amount: 21, defaultMemo: "a coffee" });
    case "/pay":
      return await env.WALLET.payInvoice({ invoice: await request.text() });
    case "/budget":
      return await env.WALLET.getBudget();
    default:
      return await env.WALLET.listTransactions();
  }
}

export default {
  async fetch(request: Request, env: Env) {
    try {
      return Response.json(await answer(request, env));
    } catch (error) {
      const { name, message } = error as Error;
      return Response.json({ name, message }, { status: 502 });
    }
  },
};
