import postgres from "postgres";

async function ask(options) {
  const sql = postgres({ ...options, username: "app", password: "topsecret", database: "postgres", max: 2 });
  const rows = await Promise.all([1, 2, 3].map((n) => sql`select ${n}::int as n`));
  const sum = await sql.begin(async (sql) => {
    await sql`create temporary table t (n int) on commit drop`;
    await sql`insert into t ${sql([{ n: 1 }, { n: 2 }])}`;
    return (await sql`select sum(n)::int as n from t`)[0].n;
  });
  const failed = await sql`select * from nowhere`.catch((error) => error.code);
  await sql.end();
  return [rows.map((row) => row[0].n), sum, failed];
}

export default async ({ host, port }) => ({
  plain: await ask({ host, port }),
  tls: await ask({ host, port, ssl: "require" }),
});
