// Untrusted code sends requests to its host, and the host decides what to answer.
//
//   stockade run examples/request-response.js

const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();

const stock = { tea: 3.5, milk: 1.25 };

// A handler may be async. What it returns is the answer, what it throws rejects the guest's promise.
worker.onRequest('price', async ({ item }) => {
  if (!Object.hasOwn(stock, item)) throw new Error(`there is no '${item}' in the shop`);
  return { item, price: stock[item] };
});

worker.execute(`
  async function bill(order) {
    const lines = [];
    for (const [item, count] of Object.entries(order)) {
      const { price } = await NETWORK.request('price', { item });
      lines.push({ item, count, sum: price * count });
    }
    return lines;
  }
`);

// The host calls the guest's function and waits for its result.
console.log(await worker.call('bill', { tea: 2, milk: 1 }));

for (const code of [`bill({ gold: 1 })`, `NETWORK.request('delete everything')`]) {
  try {
    await worker.evaluate(code);
  } catch (error) {
    console.log('refused:', error.message);
  }
}

sandbox.shutdown();
