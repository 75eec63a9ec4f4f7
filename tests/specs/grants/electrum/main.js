// A view of a Bitcoin chain, at every level: questions, states, and what is left with the server when the guest ends.

import { serve } from "./server.js";

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const server = serve();
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: { CHAIN: { electrum: { servers: [server.url], network: "regtest" } } },
  });
  isolate.onRequest("block", (height) => server.block(height));
  const result = await isolate.evaluate(`(async () => {
    const { CHAIN } = NETWORK.env;
    const heights = [];
    for await (const { height } of CHAIN.headers()) {
      heights.push(height);
      if (heights.length === 2) break;
      await NETWORK.request("block", height + 1);
    }
    globalThis.held = CHAIN.subscribe("blockchain.scripthash.subscribe", "ab".repeat(32)).getReader();
    return {
      heights,
      state: (await held.read()).value,
      balance: await CHAIN.balance("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
      fee: await CHAIN.feeRate(2),
      tx: await CHAIN.tx("00".repeat(32)).catch(({ name, code, message }) => [name, code, message]),
    };
  })()`);
  console.log(isolation, JSON.stringify(result), server.scripts().length);
  isolate.destroy();
  await server.unsubscribed();
  server.close();
  console.log("nothing is left");
}
