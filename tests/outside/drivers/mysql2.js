import mysql from "mysql2/promise";

async function ask(options) {
  const connection = await mysql.createConnection({
    ...options,
    user: "app",
    password: "topsecret",
    database: "app",
    disableEval: true,
  });
  const [[row]] = await connection.execute("select ? + 1 as n, ? as t", [41, "h\u00e9"]);
  const [many] = await connection.query("select seq as i, repeat('x', 1000) as x from seq_1_to_3000");
  const failed = await connection.query("select * from nowhere").catch((error) => error.code);
  await connection.end();
  return [Number(row.n), row.t, many.length, failed];
}

export default async ({ host, port }) => ({
  plain: await ask({ host, port }),
  tls: await ask({ host, port, ssl: {} }),
});
