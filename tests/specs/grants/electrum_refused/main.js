// A guest that wants more of a chain than it was granted, at every level. The control is what it may ask.

import { serve } from "../electrum/server.js";

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const server = serve();
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: { CHAIN: { electrum: { servers: [server.url], network: "regtest", limits: { rate: 60, handles: 2 } } } },
  });
  const result = await isolate.evaluate(`(async () => {
    const { CHAIN } = NETWORK.env;
    const messages = [];
    const failed = (promise) => promise.then(() => "done", (error) => (messages.push(error.message), error.name));
    const subscribed = (...params) => {
      const reader = CHAIN.subscribe("blockchain.scripthash.subscribe", ...params).getReader();
      return failed(reader.read()).then((how) => [how, reader]);
    };
    const tried = {
      control: await failed(CHAIN.balance("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")),
      mainnet: await failed(CHAIN.balance("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")),
      banner: await failed(CHAIN.request("server.banner")),
      peers: await failed(CHAIN.subscribe("server.peers.subscribe").getReader().read()),
      broadcast: await failed(CHAIN.broadcast("00")),
      asked: await failed(CHAIN.request("blockchain.transaction.broadcast", "00")),
      lines: await failed(CHAIN.request('blockchain.relayfee"}\\n{"id":1,"method":"server.add_peer')),
      params: await failed(CHAIN.request("blockchain.relayfee", '"]}\\n{"id":1,"method":"server.add_peer","params":["')),
      request: await failed(CHAIN.request("blockchain.headers.subscribe")),
      two: (await subscribed("00", "11"))[0],
      long: (await subscribed("0".repeat(100)))[0],
      own: await failed(Promise.resolve().then(() => new CHAIN.constructor("CHAIN"))),
    };
    // Two subscriptions and no third, until one of them ends.
    const held = [await subscribed("aa"), await subscribed("bb"), await subscribed("cc")];
    tried.handles = held.map(([how]) => how);
    await held[0][1].cancel();
    let again = "QuotaExceededError";
    while (again !== "done") [again] = await subscribed("dd");
    tried.again = again;
    const flood = await Promise.all(Array.from({ length: 300 }, () => failed(CHAIN.feeRate(2))));
    tried.flood = flood.includes("BusyError");
    tried.named = messages.some((message) => message.includes("127.0.0.1") || message.includes("${server.port}"));
    return tried;
  })()`);
  console.log(isolation, JSON.stringify(result));
  console.log(server.methods().filter((method) => !method.startsWith("blockchain.")).join(" "));
  isolate.destroy();
  server.close();
}
