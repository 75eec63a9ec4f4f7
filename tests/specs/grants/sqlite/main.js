// A database at every level: values, statements of several, transactions, errors, and what is refused.

const sandbox = new V8Sandbox();
const folder = await Deno.makeTempDir();

for (const isolation of ["thread", "process", "container"]) {
  const file = `${folder}/${isolation}.db`;
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      DB: {
        sqlite: {
          file,
          storage: "2mb",
          statement: "20s",
          transaction: "300ms",
          isolation: isolation === "process" ? "process" : "container",
          limits: { handles: 2 },
        },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { DB } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => [error.name, error.code ?? null]);
    const none = () => {};
    await DB.exec("create table t (id integer primary key, v unique, __proto__)");
    const values = [null, 2, -0.5, 2n ** 63n - 1n, true, "\\0b0", "caf\u00e9", new Uint8Array([0, 255]), Infinity];
    const insert = DB.prepare("insert into t (v) values (?)");
    for (const value of values) await insert.bind(value).run();
    const { results, meta } = await DB.prepare("select v from t order by id").all();
    const batch = await DB.batch([insert.bind("a"), DB.prepare("select count(*) as n from t")]);
    const count = () => DB.prepare("select count(*) as n from t").first("n");
    const atomic = await failed(DB.batch([insert.bind("b"), insert.bind("a")]));
    const done = await DB.transaction(async (tx) => {
      await tx.prepare("insert into t (v) values (?)").bind("c").run();
      return tx.prepare("select count(*) as n from t").first("n");
    });
    const error = await failed(DB.transaction(async (tx) => {
      await tx.prepare("insert into t (v) values (?)").bind("d").run();
      throw new RangeError("no");
    }));
    let kept;
    await DB.transaction((tx) => { kept = tx; });
    const late = await failed(DB.transaction(async (tx) => {
      // Longer than a transaction may last: a call that waits gets the database then.
      await tx.prepare("insert into t (v) values (?)").bind("e").run();
      const waited = await count();
      await tx.prepare("insert into t (v) values (?)").bind(waited).run();
    }));
    return {
      values: results.map(({ v }) => typeof v === "bigint" ? v + "n" : v instanceof Uint8Array ? [...v] : v === Infinity ? "Infinity" : v),
      class: [DB, insert].map((value) => Object.prototype.toString.call(value)),
      changes: batch.map((one) => one.meta.changes),
      counted: batch[1].results,
      proto: Object.hasOwn((await DB.prepare("select * from t limit 1").first()), "__proto__"),
      raw: await DB.prepare("select id, v from t limit 2").raw({ columnNames: true }),
      atomic,
      done,
      error,
      kept: await failed(Promise.resolve().then(() => kept.exec("select 1"))),
      late,
      count: await count(),
      column: await failed(DB.prepare("select 1 as a").first("b")),
      missing: await DB.prepare("select 1 where 0").first(),
      syntax: await failed(DB.prepare("selec").all()),
      object: await failed(Promise.resolve().then(() => insert.bind({}))),
      surrogate: await failed(Promise.resolve().then(() => insert.bind("\\ud800"))),
      attach: await failed(DB.exec("attach '/etc/passwd' as p")),
      begin: await failed(DB.exec("begin")),
      full: await failed(insert.bind(new Uint8Array(1_900_000)).run().then(() => insert.bind(new Uint8Array(1_900_001)).run())),
      handle: await failed(NETWORK.request("binding.call", { binding: "DB", method: "commit", args: [{ handle: 1 }] })),
      forged: await failed(NETWORK.request("binding.call", { binding: "DB", method: "run", args: [{ statements: [["select 1", [{ x: 1 }]]] }] })),
      unknown: await failed(NETWORK.request("binding.call", { binding: "DB", method: "open", args: [{}] })),
      steps: meta.steps > 0,
    };
  })()`);
  for (const [key, value] of Object.entries(result)) console.log(isolation, key, JSON.stringify(value));
  // Another isolate cannot have the same file.
  try {
    await sandbox.createIsolate({ grants: { DB: { sqlite: { file } } } });
  } catch (error) {
    console.log(error.message.replaceAll(folder, "FOLDER"));
  }
  isolate.destroy();
}
