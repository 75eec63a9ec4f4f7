// The balance and the history of an address, and what a transaction costs now.

interface Env {
  CHAIN: Electrum;
}

export default {
  async fetch(request: Request, env: Env) {
    const address = new URL(request.url).pathname.slice(1);
    try {
      const [balance, history, fee] = await Promise.all([
        env.CHAIN.balance(address),
        env.CHAIN.history(address),
        env.CHAIN.feeRate(6),
      ]);
      return Response.json({ balance, transactions: history.length, satPerVbyte: fee });
    } catch (error) {
      return Response.json({ error: String(error) }, { status: 502 });
    }
  },
};
