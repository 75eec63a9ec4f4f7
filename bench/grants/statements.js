// `n` statements, `level` at a time, and what they took.

export async function statements(n, level, asks) {
  const took = new Float64Array(n);
  let next = 0;
  const worker = async (ask) => {
    for (let i = next++; i < n; i = next++) {
      const begun = performance.now();
      await ask();
      took[i] = performance.now() - begun;
    }
  };
  const begun = performance.now();
  await Promise.all(asks.slice(0, level).map(worker));
  const ms = performance.now() - begun;
  took.sort();
  const at = (part) => took[Math.floor(part * (n - 1))] * 1000;
  return { p50_us: at(0.5), p99_us: at(0.99), per_s: n / ms * 1000 };
}

/** The same after a tenth of it, which is not counted. */
export async function measured(n, level, asks) {
  await statements(Math.ceil(n / 10), level, asks);
  return await statements(n, level, asks);
}

/** As many clients of npm's pg as work at a time, each connected. */
export async function clients(pg, connectionString, level) {
  return await Promise.all(Array.from({ length: level }, async () => {
    const client = new pg.Client({ connectionString });
    await client.connect();
    return client;
  }));
}
