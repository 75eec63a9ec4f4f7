import Redis from "ioredis";

export default async ({ host, port, tlsPort }) => {
  const ask = async (options) => {
    const client = new Redis({ host, password: "topsecret", retryStrategy: () => null, ...options });
    await client.set("k", "v".repeat(100_000));
    await client.set("n", 0);
    const done = await client.multi().strlen("k").incr("n").exec();
    const listener = client.duplicate();
    await listener.subscribe("news");
    const message = new Promise((resolve) => listener.on("message", (_, text) => resolve(text)));
    await client.publish("news", "hello");
    const result = [done.map(([error, value]) => error ?? value), await message];
    listener.disconnect();
    await client.quit();
    return result;
  };
  return { plain: await ask({ port }), tls: await ask({ port: tlsPort, tls: {} }) };
};
