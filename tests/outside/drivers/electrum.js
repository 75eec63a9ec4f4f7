import ElectrumClient from "@mempool/electrum-client";

const silent = { onConnect() {}, onClose() {}, onError() {}, onLog() {} };

export default async ({ host, port, tlsPort }) => {
  const ask = async (port, protocol) => {
    const client = new ElectrumClient(port, host, protocol, undefined, silent);
    await client.initElectrum({ client: "stockade", version: "1.4" }, { retryPeriod: 0, maxRetry: 0, callback: null });
    const result = await client.request("blockchain.block.headers", [0, 2]).catch((error) => String(error));
    client.close?.();
    return result;
  };
  return { plain: await ask(port, "tcp"), tls: await ask(tlsPort, "tls") };
};
