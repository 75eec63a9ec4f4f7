// Gives functions of the host to a guest: they run in the host, and the guest gets promises.
//
//   stockade run examples/host-functions.js

const stock = new Map([['tea', 3], ['milk', 0]]);

const worker = await new V8Sandbox().createIsolate({
  env: {
    shop: {
      inStock: async (item) => stock.get(item) ?? 0,
      buy(item) {
        if (!stock.get(item)) throw new Error(`no ${item} left`);
        stock.set(item, stock.get(item) - 1);
      },
    },
  },
});

worker.execute(`
  async function fetchTea() {
    const { shop } = NETWORK.env;
    const bought = [];
    for (const item of ['tea', 'milk']) {
      try {
        await shop.buy(item);
        bought.push(item);
      } catch (error) {
        bought.push(error.message);
      }
    }
    return { bought, left: await shop.inStock('tea') };
  }
`);
console.log(await worker.call('fetchTea'));
worker.destroy();
