import { createClient } from "redis";

export default async ({ host, port, tlsPort }) => {
  const ask = async (url) => {
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on("error", () => {});
    await client.connect();
    await client.set("a", "1");
    const result = [await client.get("a"), await client.multi().incr("a").get("a").exec()];
    await client.close();
    return result;
  };
  return {
    plain: await ask(`redis://:topsecret@${host}:${port}`),
    tls: await ask(`rediss://:topsecret@${host}:${tlsPort}`),
  };
};
