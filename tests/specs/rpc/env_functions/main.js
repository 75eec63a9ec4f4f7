// Functions of the host, anywhere in `env`.
const seen = [];
const worker = await new V8Sandbox().createIsolate({
  env: {
    KEY: "x",
    svc: {
      price: async (item, count = 1) => (await Promise.resolve(item.length)) * count,
      self() {
        seen.push(this);
        return arguments.length;
      },
      sync: (bytes) => ({ doubled: bytes.map((byte) => byte * 2), type: bytes.constructor.name }),
    },
    list: [1, () => "from a list"],
    top: (...args) => args,
    fails: () => {
      throw new RangeError("out of stock");
    },
    stream: (chunks) => new Response(chunks).body,
  },
});
const ask = (code) => worker.evaluate(`(async () => ${code})()`);
console.log(await ask("await NETWORK.env.svc.price('tea', 3)"));
console.log(await ask("await NETWORK.env.svc.self(1, 2)"), seen);
console.log(await ask("await NETWORK.env.svc.sync(new Uint8Array([1, 2]))"));
console.log(await ask("await NETWORK.env.list[1]()"), await ask("NETWORK.env.list.length"));
console.log(await ask("await NETWORK.env.top(1, undefined, { a: [null] })"));
console.log(await ask("NETWORK.env.fails().catch((error) => [error.name, error.message])"));
console.log(await ask("await new Response(await NETWORK.env.stream('text')).text()"));
console.log(await ask("[NETWORK.env.KEY, typeof NETWORK.env.svc.price, NETWORK.env.svc.price.name, Object.keys(NETWORK.env)]"));
console.log(await ask("NETWORK.env.top() instanceof Promise"));

// Those of the sandbox are for isolates without an `env` of their own.
const sandbox = new V8Sandbox({ env: { where: () => "sandbox" } });
const [a, b] = [await sandbox.createIsolate(), await sandbox.createIsolate({ env: { own: () => "own" } })];
console.log(await a.evaluate("NETWORK.env.where()"), await b.evaluate("NETWORK.env.own()"));
console.log(await b.evaluate("NETWORK.request('env:where', []).catch((error) => error.message)"));
sandbox.shutdown();
worker.destroy();
