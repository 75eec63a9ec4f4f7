import pg from "pg";

// By node:net and node:tls too: pg chooses its way by the name of the platform.
async function ask(options) {
  const client = new pg.Client(options);
  await client.connect();
  const { rows } = await client.query("select $1::int + 1 as n, $2::text as t, now() as d", [41, "h\u00e9"]);
  const many = await client.query("select i, repeat('x', 1000) as x from generate_series(1, 5000) i");
  const failed = await client.query("select * from nowhere").catch((error) => error.code);
  await client.end();
  return [rows[0].n, rows[0].t, rows[0].d instanceof Date, many.rows.length, failed];
}

export default async ({ host, port }) => {
  const base = { host, port, user: "app", password: "topsecret", database: "postgres" };
  const pool = new pg.Pool({ ...base, max: 3 });
  const counts = await Promise.all([1, 2, 3, 4, 5].map((n) => pool.query("select $1::int as n", [n])));
  await pool.end();
  return { plain: await ask(base), tls: await ask({ ...base, ssl: true }), pool: counts.map((r) => r.rows[0].n) };
};
