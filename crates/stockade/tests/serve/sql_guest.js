// Statements without a driver: `/values` and so on give what the databases gave, for the tests to compare.

const plain = (value) => JSON.parse(JSON.stringify(value, (_, part) => {
  if (typeof part === "bigint") return `${part}n`;
  if (part instanceof Uint8Array) return { bytes: [...part] };
  return part;
}));

// Dates answer `toJSON`, so they are marked before.
const shown = (rows) => rows.map((row) => Object.entries(row).map(([name, value]) =>
  [name, value instanceof Date ? { date: value.toISOString() } : value]));

async function failure(work) {
  try {
    return { none: plain(await work()) };
  } catch (error) {
    const { name, message, code, errno, constraint, table, column, position } = error;
    return { name, message, code, errno, constraint, table, column, position };
  }
}

const tests = {
  // Values of every kind, from a text of the test's.
  async values({ sql }, { text }) {
    const rows = await sql.unsafe(text);
    return { rows: shown(rows), count: rows.count, command: rows.command, columns: rows.columns };
  },

  // Parameters are given back as what the database took them for.
  async parameters({ sql }) {
    const hostile = "'; drop table t; --\u{10ffff}\\\"";
    const date = new Date("2026-02-03T04:05:06.789Z");
    const [row] = await sql`select ${hostile}::text as t, ${2n ** 63n - 1n}::int8 as n, ${1.5}::float8 as f,
      ${true}::bool as b, ${null}::text as z, ${date}::timestamptz as d, ${new Uint8Array([0, 255])}::bytea as y,
      ${[1, null, 3]}::int[] as l, ${["a\"\\,{}", "NULL", null]}::text[] as s, ${[[1n], [2n]]}::int8[] as m,
      ${{ a: [1] }}::jsonb as j, ${sql.json([1, "x"])}::jsonb as k, ${NaN}::float8 as q`;
    const { t, d, q, ...rest } = row;
    return { ...rest, same: t === hostile && d.getTime() === date.getTime() && Number.isNaN(q) };
  },

  async refused({ sql }) {
    return [
      await failure(() => sql`select ${undefined}`),
      await failure(() => sql`select ${Symbol("a")}`),
      await failure(() => sql`select ${"\ud800"}::text`),
      await failure(() => sql`select ${"a\0b"}::text`),
      await failure(() => sql`select ${2n ** 63n}::int8`),
      await failure(() => sql`select ${new Date(NaN)}::timestamptz`),
      await failure(() => sql`select 1; select 2`),
      await failure(() => sql`begin`),
      await failure(() => sql("a", "b")),
      await failure(() => sql`insert into u values (-1, 'x')`),
      await failure(() => sql`insert into u values (1, null)`),
      await failure(() => sql`select nothing`),
      await failure(() => sql`copy t from stdin`),
    ];
  },

  // Names that objects of JavaScript have, and names that come twice.
  async names({ sql }) {
    const text = 'select 1 as "__proto__", 2 as "constructor", 3 as a, 4 as a, 5 as "toString", 6 as "then"';
    const [row] = await sql.unsafe(text);
    return {
      own: Object.keys(row),
      proto: Object.getPrototypeOf(row) === Object.prototype,
      value: Object.getOwnPropertyDescriptor(row, "__proto__").value,
      values: await sql.unsafe(text).values(),
      clean: {}.polluted === undefined,
    };
  },

  async fragments({ sql }) {
    const rest = (from) => sql`where a > ${from} and b = ${"x"}`;
    await sql`create temporary table f (a int, b text)`;
    return await sql.begin(async (sql) => {
      await sql`create temporary table g (a int, b text)`;
      await sql`insert into ${sql("g")} (${sql("a")}, ${sql("b")}) values (1, 'x'), (2, 'x'), (3, ${"y"})`;
      const quoted = await sql`select a as ${sql("we\"ird")} from ${sql("pg_temp.g")} ${rest(1)} order by a`;
      return { quoted };
    });
  },

  async transactions({ sql }) {
    const count = async () => (await sql`select count(*) as n from t`)[0].n;
    const out = {};
    out.value = await sql.begin(async (sql) => {
      await sql`insert into t values (1)`;
      return "done";
    });
    out.committed = await count();
    out.thrown = await failure(() => sql.begin(async (sql) => {
      await sql`insert into t values (2)`;
      throw new RangeError("mine");
    }));
    out.rolledBack = await count();
    out.nested = await sql.begin(async (sql) => {
      await sql`insert into t values (3)`;
      const inner = await failure(() => sql.begin(async (sql) => {
        await sql`insert into t values (4)`;
        await sql`select 1 / (select 0)`;
      }));
      await sql.savepoint((sql) => sql`insert into t values (5)`);
      return inner.code ?? "none";
    });
    out.rows = (await sql`select a from t order by a`).map((row) => row.a);
    out.array = (await sql.begin((sql) => [sql`select 1 as a`, sql`select 2 as a`])).map(([row]) => row.a);
    out.readOnly = await failure(() => sql.begin({ isolation: "serializable", readOnly: true }, (sql) =>
      sql`insert into t values (6)`));
    out.isolation = await failure(() => sql.begin({ isolation: "chaos" }, () => {}));
    let kept;
    await sql.begin((sql) => { kept = sql; });
    out.ended = await failure(() => kept`select 1`);
    out.own = await failure(() => sql.begin(async (sql) => {
      await sql.unsafe("commit");
      await sql`select 1`;
    }));
    return out;
  },

  async cursors({ sql }, { text, series }) {
    const out = { sizes: [], sum: 0 };
    for await (const rows of sql.unsafe(series).cursor(100)) {
      out.sizes.push(rows.length);
      for (const row of rows) out.sum += row.n;
    }
    // One that never ends: as much of it as is wanted.
    let seen = 0;
    for await (const rows of sql.unsafe(text).cursor(50)) {
      seen += rows.length;
      if (seen >= 200) break;
    }
    out.seen = seen;
    out.inside = await sql.begin(async (sql) => {
      let seen = 0;
      for await (const rows of sql.unsafe(text).cursor(10)) {
        const [{ n }] = await sql`select 1 as n`;
        seen += rows.length * n;
        if (seen === 30) break;
      }
      return seen;
    });
    out.none = await failure(() => sql.unsafe("select nothing").cursor(10).next());
    out.empty = await sql.unsafe(`${series} limit 0`).cursor(10).next();
    return out;
  },

  // More than there are sessions for, at once.
  async many({ sql }, { count }) {
    const all = await Promise.allSettled(Array.from({ length: Number(count) }, (_, i) => sql`select ${i} as n`));
    return all.filter((one) => one.status === "fulfilled").length;
  },

  async begins({ sql }, { count }) {
    const names = {};
    let running = 0;
    let most = 0;
    await Promise.all(Array.from({ length: Number(count) }, () => sql.begin(async (sql) => {
      most = Math.max(most, ++running);
      await sql`select 1`;
      running--;
    }).then(() => "fulfilled", (error) => error.name).then((name) => names[name] = (names[name] ?? 0) + 1)));
    return { names: Object.keys(names).sort(), all: Object.values(names).reduce((a, b) => a + b), most };
  },

  // As many connections of a driver as a mirror may have, just after as many statements at once.
  async driver(binding) {
    await Promise.all([1, 2, 3].map((n) => binding.sql`select ${n}`));
    const startup = new TextEncoder().encode("\0\0\0\x14\0\x03\0\0user\0guest\0\0");
    return await Promise.all([1, 2, 3].map(async () => {
      const socket = binding.connect();
      await socket.writable.getWriter().write(startup);
      const { value } = await socket.readable.getReader().read();
      return String.fromCharCode(value[0]);
    }));
  },

  async never({ sql }) {
    sql.begin(async (sql) => {
      await sql`insert into t values (99)`;
      await new Promise(() => {});
    }).catch(() => {});
    await new Promise(() => {});
  },

  async run({ sql }, { text }) {
    return failure(() => sql.unsafe(text));
  },
};

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const test = tests[url.pathname.slice(1)];
    try {
      return Response.json(plain(await test(env.DB, Object.fromEntries(url.searchParams))));
    } catch (error) {
      return Response.json({ name: error.name, message: error.message, code: error.code, stack: error.stack });
    }
  },
};
