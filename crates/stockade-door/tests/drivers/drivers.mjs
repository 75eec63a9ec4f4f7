// Runs npm's drivers through doors on local ports: `node drivers.mjs <kind> <port>`, with the folder of the packages in
// STOCKADE_DRIVERS. Each driver gets a wrong password, and what it does is what its own documentation shows first. The
// program ends with an error at the first result that is not the expected one.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { pipeline } from "node:stream/promises";

const load = createRequire(`${process.env.STOCKADE_DRIVERS}/`);
const [kind, port] = [process.argv[2], Number(process.argv[3])];
const login = { host: "127.0.0.1", port, user: "guest", password: "wrong", database: "none" };

async function pg() {
  const { Client, Pool } = load("pg");
  const pool = new Pool({ ...login, max: 3, application_name: "pg" });
  const { rows } = await pool.query("select $1::int + 1 as n, current_user as u", [41]);
  assert.deepEqual(rows, [{ n: 42, u: "app" }]);
  const client = await pool.connect();
  await client.query("begin");
  await client.query("insert into t values ($1)", [7]);
  await client.query("savepoint s");
  await assert.rejects(client.query("select 1/0"), { code: "22012" });
  await client.query("rollback to s");
  assert.equal((await client.query("select count(*)::int as n from t")).rows[0].n, 1);
  await client.query("rollback");
  client.release();
  const named = { name: "n", text: "select $1::text as t", values: ["a"] };
  for (const _ of [1, 2]) assert.equal((await pool.query(named)).rows[0].t, "a");
  await pool.end();
  // Cursors, COPY, and notifications.
  const stream = new Client(login);
  await stream.connect();
  let sum = 0;
  const Query = load("pg-query-stream");
  for await (const row of stream.query(new Query("select generate_series(1, 1000)::int as n", [], { batchSize: 100 }))) sum += row.n;
  assert.equal(sum, 500500);
  await pipeline([Buffer.from("1\n2\n3\n")], stream.query(load("pg-copy-streams").from("copy t from stdin")));
  const out = [];
  for await (const chunk of stream.query(load("pg-copy-streams").to("copy (select a from t order by a) to stdout"))) out.push(chunk);
  assert.equal(Buffer.concat(out).toString(), "1\n2\n3\n");
  await stream.query("delete from t");
  await stream.query("listen news");
  const notified = once(stream, "notification");
  await stream.query("notify news, 'hello'");
  assert.equal((await notified)[0].payload, "hello");
  await stream.end();
}

async function postgres() {
  const sql = load("postgres")({ ...login, max: 3, connection: { statement_timeout: 7000 } });
  const many = await Promise.all([1, 2, 3, 4, 5].map((x) => sql`select ${x}::int as x`));
  assert.deepEqual(many.map(([row]) => row.x), [1, 2, 3, 4, 5]);
  assert.equal((await sql`show statement_timeout`)[0].statement_timeout, "7s");
  const [{ n }] = await sql.begin(async (sql) => {
    await sql`insert into t values (8)`;
    return sql`select count(*)::int as n from t`;
  });
  assert.equal(n, 1);
  let rows = 0;
  await sql`select * from generate_series(1, 1000)`.cursor(100, (part) => { rows += part.length; });
  assert.equal(rows, 1000);
  const slow = sql`select pg_sleep(1000)`;
  slow.catch(() => {});
  setTimeout(() => slow.cancel(), 200);
  await assert.rejects(slow, { code: "57014" });
  await sql`delete from t`;
  await sql.end();
}

async function drizzle() {
  const { drizzle } = load("drizzle-orm/node-postgres");
  const { integer, pgTable } = load("drizzle-orm/pg-core");
  const { eq } = load("drizzle-orm");
  const table = pgTable("t", { a: integer("a") });
  const db = drizzle({ connection: login });
  await db.transaction(async (tx) => {
    await tx.insert(table).values([{ a: 1 }, { a: 2 }]);
    await tx.update(table).set({ a: 3 }).where(eq(table.a, 1));
  });
  assert.deepEqual((await db.select().from(table)).map(({ a }) => a).sort(), [2, 3]);
  await db.delete(table);
  await db.$client.end();
}

async function mysql2() {
  const pool = load("mysql2/promise").createPool({ ...login, connectionLimit: 3 });
  const [rows] = await pool.execute("select ? + 1 as n, current_user() as u, database() as d", [41]);
  assert.deepEqual(rows.map(({ n, u, d }) => [Number(n), u, d]), [[42, "app@%", "shop"]]);
  const connection = await pool.getConnection();
  await connection.beginTransaction();
  await connection.query("insert into t values (?)", [[7]]);
  await connection.rollback();
  await assert.rejects(connection.query("select * from nothing"), { code: "ER_NO_SUCH_TABLE" });
  assert.deepEqual((await connection.query("select 'ü😀' as t"))[0], [{ t: "ü😀" }]);
  connection.release();
  let count = 0;
  const raw = pool.pool.query("select seq from seq_1_to_1000").stream();
  for await (const _ of raw) count += 1;
  assert.equal(count, 1000);
  await pool.end();
}

async function mariadb() {
  const pool = load("mariadb").createPool({ ...login, connectionLimit: 3 });
  const rows = await pool.query("select ? + 1 as n, database() as d", [41]);
  assert.deepEqual(rows.map(({ n, d }) => [Number(n), d]), [[42, "shop"]]);
  const connection = await pool.getConnection();
  const answers = await Promise.all([1, 2, 3].map((x) => connection.execute("select ? as x", [x])));
  assert.deepEqual(answers.map(([row]) => Number(row.x)), [1, 2, 3]);
  await connection.release();
  await pool.end();
}

async function drizzleMysql() {
  const { drizzle } = load("drizzle-orm/mysql2");
  const { int, mysqlTable } = load("drizzle-orm/mysql-core");
  const table = mysqlTable("t", { a: int("a") });
  const db = drizzle({ connection: login });
  await db.transaction(async (tx) => { await tx.insert(table).values([{ a: 1 }, { a: 2 }]); });
  assert.deepEqual((await db.select().from(table)).map(({ a }) => a).sort(), [1, 2]);
  await db.delete(table);
  await db.$client.end();
}

async function ioredis() {
  const { Redis } = load("ioredis");
  const client = new Redis({ host: "127.0.0.1", port, username: "guest", password: "wrong" });
  assert.equal(await client.set("shop:k", "v"), "OK");
  assert.equal(await client.get("shop:k"), "v");
  assert.deepEqual(await client.multi().incr("shop:n").get("shop:k").exec(), [[null, 1], [null, "v"]]);
  const pipeline = client.pipeline();
  for (let index = 0; index < 1000; index += 1) pipeline.incr("shop:p");
  assert.equal((await pipeline.exec()).at(-1)[1], 1000);
  await assert.rejects(client.keys("*"), /does not allow the command KEYS/);
  const subscriber = client.duplicate();
  await subscriber.subscribe("shop:news");
  const message = once(subscriber, "message");
  await client.publish("shop:news", "hello");
  assert.deepEqual(await message, ["shop:news", "hello"]);
  await client.del("shop:k", "shop:n", "shop:p");
  await subscriber.quit();
  await client.quit();
}

async function redis() {
  for (const RESP of [2, 3]) {
    const client = load("redis").createClient({ url: `redis://guest:wrong@127.0.0.1:${port}`, RESP });
    await client.connect();
    await client.set("shop:k", "v", { EX: 100 });
    assert.equal(await client.get("shop:k"), "v");
    assert.deepEqual(await client.multi().incr("shop:n").get("shop:k").exec(), [1, "v"]);
    await assert.rejects(client.eval("return 7"), /does not allow the command EVAL/);
    const subscriber = client.duplicate();
    await subscriber.connect();
    const message = new Promise((resolve) => { subscriber.subscribe("shop:news", resolve); });
    while ((await client.publish("shop:news", "hello")) === 0);
    assert.equal(await message, "hello");
    await client.del(["shop:k", "shop:n"]);
    await subscriber.close();
    await client.close();
  }
}

const kinds = {
  postgres: [pg, postgres, drizzle],
  mysql: [mysql2, mariadb, drizzleMysql],
  redis: [ioredis, redis],
};
for (const driver of kinds[kind]) {
  await driver();
  console.log(`${driver.name} works`);
}
process.exit(0);
