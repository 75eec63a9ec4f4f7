// A server of Electrum's protocol on regtest, at height 7.

const GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

export function serve() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  // What each connection is subscribed to, and who waits for there to be nothing.
  const connections = new Map();
  const waiting = [];
  const methods = new Set();
  const scripts = () => [...connections.values()].flatMap((subscribed) => [...subscribed]);
  const changed = () => {
    if (scripts().length === 0) while (waiting.length > 0) waiting.pop()();
  };

  function answer(subscribed, method, params) {
    switch (method) {
      case "server.version":
        return { result: ["scripted", "1.4"] };
      case "server.features":
        return { result: { genesis_hash: GENESIS } };
      case "blockchain.headers.subscribe":
        return { result: { height: 7, hex: "00" } };
      case "blockchain.block.header":
        return { result: "00" };
      case "blockchain.scripthash.subscribe":
        subscribed.add(params[0]);
        return { result: "state of " + params[0].slice(0, 4) };
      case "blockchain.scripthash.unsubscribe":
        return { result: subscribed.delete(params[0]) };
      case "blockchain.scripthash.get_balance":
        return { result: { confirmed: 5_000_000_000, unconfirmed: -1 } };
      case "blockchain.estimatefee":
        return { result: 0.00012 };
      default:
        return { error: { code: -5, message: "not here" } };
    }
  }

  async function talk(conn) {
    const subscribed = new Set();
    connections.set(conn, subscribed);
    try {
      let text = "";
      for await (const part of conn.readable.pipeThrough(new TextDecoderStream())) {
        const lines = (text + part).split("\n");
        text = lines.pop();
        for (const line of lines) {
          const { id, method, params } = JSON.parse(line);
          methods.add(method);
          await send(conn, { jsonrpc: "2.0", id, ...answer(subscribed, method, params) });
          changed();
        }
      }
    } catch {
      // The connection has ended.
    }
    connections.delete(conn);
    changed();
  }

  const send = (conn, line) => conn.write(new TextEncoder().encode(JSON.stringify(line) + "\n"));
  (async () => {
    for await (const conn of listener) talk(conn);
  })();
  return {
    port,
    url: `tcp://127.0.0.1:${port}`,
    scripts,
    methods: () => [...methods].sort(),
    // Announces a block on all connections.
    async block(height) {
      const line = { jsonrpc: "2.0", method: "blockchain.headers.subscribe", params: [{ height, hex: "00" }] };
      for (const conn of connections.keys()) await send(conn, line);
    },
    // When nobody is subscribed to a script.
    unsubscribed: () => new Promise((resolve) => {
      waiting.push(resolve);
      changed();
    }),
    close: () => listener.close(),
  };
}
