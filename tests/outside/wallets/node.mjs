// A regtest node of bcoin with 110 blocks, in memory. ElectrumX asks for what Bitcoin Core 31 has: bcoin's answers are
// completed here.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const FullNode = require("bcoin/lib/node/fullnode");
const KeyRing = require("bcoin/lib/primitives/keyring");

// The prefix of Bitcoin Core's regtest.
require("bcoin/lib/protocol/networks").regtest.addressPrefix.bech32 = "bcrt";

const node = new FullNode({
  network: "regtest",
  memory: true,
  apiKey: "x",
  listen: true,
  host: "127.0.0.1",
  port: Number(process.env.P2P_PORT),
  httpHost: "127.0.0.1",
  httpPort: Number(process.env.HTTP_PORT),
  indexTx: true,
  indexAddress: true,
  loader: require,
});
await node.ensure?.();
await node.open();
await node.connect();
const ring = KeyRing.generate();
ring.witness = true;
node.miner.addAddress(ring.getAddress());

async function mine(count) {
  for (let i = 0; i < count; i++) await node.chain.add(await node.miner.mineBlock());
  return node.chain.height;
}

const calls = node.rpc.calls;
const { getnetworkinfo } = calls;
calls.getnetworkinfo = async (args, help) => ({
  ...(await getnetworkinfo.call(node.rpc, args, help)),
  version: 310000,
  relayfee: 0.00001,
  warnings: "",
});
calls.getindexinfo = async () => ({
  txindex: { synced: true, best_block_height: node.chain.height },
  txospenderindex: { synced: true, best_block_height: node.chain.height },
});
calls.gettxspendingprevout = async ([outs]) => outs.map(({ txid, vout }) => ({ txid, vout }));
calls.testmine = async ([count]) => await mine(count);

await mine(110);
console.log("miner", ring.getAddress("string", "regtest"));
console.log("ready", node.chain.height);
