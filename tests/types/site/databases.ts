// Databases that the guest's own driver speaks to.

interface Env {
  DB: Hyperdrive;
}

export default {
  async fetch(_request: Request, env: Env) {
    const { connectionString, host, port, user, password, database } = env.DB;
    const socket: Socket = env.DB.connect();
    await socket.opened;
    // @ts-expect-error -- a member is not for changing
    env.DB.host = "localhost";
    // @ts-expect-error -- the server is that of the grant
    env.DB.connect("localhost:5432");
    return Response.json([connectionString, host, port + 1, user, password, database]);
  },
};

interface SqlEnv {
  DB: SqlServer;
}

/** Statements without a driver. */
export async function statements({ DB: { sql } }: SqlEnv) {
  const rows = await sql<{ id: number; at: Date }>`select id, at from ${sql("notes")} where id = ${1n} ${sql`limit ${5}`}`;
  const at: Date | undefined = rows[0]?.at;
  const count: number = rows.count;
  for await (const part of sql`select 1`.cursor(10)) console.log(part.length, part.columns[0]?.name);
  const values = await sql.unsafe("select $1", [new Uint8Array(1)]).values();
  const sum: number = await sql.begin({ isolation: "serializable", readOnly: true }, async (sql) => {
    await sql.savepoint((sql) => sql`select ${sql.json({ a: 1 })}`);
    return 1;
  });
  // @ts-expect-error -- undefined is not a parameter
  sql`select ${undefined}`;
  // @ts-expect-error -- a function is needed
  await sql.begin("select 1");
  // @ts-expect-error -- no such isolation
  await sql.begin({ isolation: "chaos" }, () => 1);
  return [at, count, values, sum];
}
