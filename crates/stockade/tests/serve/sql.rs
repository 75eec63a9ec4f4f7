//! Statements of guests without a driver, against real servers. A test whose server is not installed is skipped with a
//! message.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::run;
use crate::database_servers::{self, PASSWORD, Running};
use crate::doors::{serve_guest, shop};
use crate::server::{PATIENCE, Server};

/// The tests of a guest, by their names.
const GUEST: &str = include_str!("sql_guest.js");

/// The endless result that cursors read a part of.
const ENDLESS: &str = "select%20repeat('x',1000)%20as%20x,generate_series(1,100000000)%20as%20n";

fn postgres(more: &str) -> Option<(Running, Server)> {
    let (database, url) = shop()?;
    database.psql(
        "create table t (a int); create table u (a int constraint positive check (a > 0), b text not null); \
         grant all on t, u to app",
    );
    let server = serve_guest(GUEST, "postgres", "DB", &url, more);
    Some((database, server))
}

async fn ask(server: &Server, path: &str) -> Value {
    server.get("a", path).await.json()
}

#[test]
fn values_of_postgresql_have_types() {
    let Some((_database, server)) = postgres("") else {
        return;
    };
    let text = "select%209223372036854775807::int8%20as%20n,5::int8%20as%20s,1.10::numeric%20as%20d,\
        '2026-02-03%2004:05:06.123456%2B02'::timestamptz%20as%20w,'infinity'::timestamp%20as%20i,\
        '%5Cx00ff'::bytea%20as%20b,'%7B%22a%22:%5B1%5D%7D'::jsonb%20as%20j,\
        array%5Barray%5B1,2%5D,array%5B3,null%5D%5D%20as%20l,true%20as%20t,null%20as%20z";
    run(async {
        let found = ask(&server, &format!("/values?text={text}")).await;
        assert_eq!(
            found["rows"],
            json!([[
                ["n", "9223372036854775807n"],
                ["s", 5],
                ["d", "1.10"],
                ["w", { "date": "2026-02-03T02:05:06.123Z" }],
                ["i", "infinity"],
                ["b", { "bytes": [0, 255] }],
                ["j", { "a": [1] }],
                ["l", [[1, 2], [3, null]]],
                ["t", true],
                ["z", null]
            ]]),
            "{found}"
        );
        assert_eq!(
            (&found["count"], &found["command"]),
            (&json!(1), &json!("SELECT"))
        );

        let found = ask(&server, "/parameters").await;
        let expected = json!({
            "n": "9223372036854775807n", "f": 1.5, "b": true, "z": null, "y": { "bytes": [0, 255] },
            "l": [1, null, 3], "s": ["a\"\\,{}", "NULL", null], "m": [[1], [2]], "j": { "a": [1] },
            "k": [1, "x"], "same": true,
        });
        assert_eq!(found, expected);

        let found = ask(&server, "/names").await;
        assert_eq!(
            found,
            json!({
                "own": ["__proto__", "constructor", "a", "toString", "then"], "proto": true, "value": 1,
                "values": [[1, 2, 3, 4, 5, 6]], "clean": true,
            })
        );
        let found = ask(&server, "/fragments").await;
        assert_eq!(found, json!({ "quoted": [{ "we\"ird": 2 }] }));
    });
}

#[test]
fn errors_of_postgresql_have_their_fields_and_no_secret() {
    let Some((database, server)) = postgres("") else {
        return;
    };
    run(async {
        let found = ask(&server, "/refused").await;
        let shown: Vec<(&str, &str)> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|error| {
                let text = |key: &str| error[key].as_str().unwrap_or("");
                (text("name"), text("code"))
            })
            .collect();
        let (of_type, of_database) = ("TypeError", "DatabaseError");
        assert_eq!(
            shown,
            [
                (of_type, ""),
                (of_type, ""),
                (of_type, ""),
                (of_database, "22021"),
                (of_database, "22003"),
                (of_type, ""),
                (of_database, "42601"),
                (of_type, ""),
                (of_type, ""),
                (of_database, "23514"),
                (of_database, "23502"),
                (of_database, "42703"),
                (of_database, "0A000"),
            ],
            "{found}"
        );
        assert_eq!(found[9]["constraint"], "positive");
        assert_eq!(
            (&found[10]["table"], &found[10]["column"]),
            (&json!("u"), &json!("b"))
        );
        assert_eq!(found[11]["position"], 8);

        // A login that fails, and a server that is gone.
        database.psql("alter role app nologin");
        let found = ask(&server, "/run?text=select%201").await;
        let text = found.to_string();
        assert_eq!(
            (&found["name"], &found["code"]),
            (&json!(of_database), &json!("28000"))
        );
        for hidden in [PASSWORD, "127.0.0.1", "app", &database.port.to_string()] {
            assert!(!text.contains(hidden), "{text}");
        }
    });
}

#[test]
fn transactions_of_postgresql_are_committed_or_undone() {
    let Some((_database, server)) = postgres("") else {
        return;
    };
    run(async {
        let found = ask(&server, "/transactions").await;
        assert_eq!(
            (&found["value"], &found["committed"]),
            (&json!("done"), &json!(1)),
            "{found}"
        );
        assert_eq!(found["thrown"]["name"], "RangeError");
        assert_eq!(found["thrown"]["message"], "mine");
        assert_eq!(
            (&found["rolledBack"], &found["nested"]),
            (&json!(1), &json!("22012"))
        );
        assert_eq!(found["rows"], json!([1, 3, 5]));
        assert_eq!(found["array"], json!([1, 2]));
        assert_eq!(found["readOnly"]["code"], "25006");
        for ended in ["isolation", "ended", "own"] {
            assert_eq!(found[ended]["name"], "TypeError", "{found}");
        }
    });
}

#[test]
fn cursors_of_postgresql_give_parts_as_they_are_asked_for() {
    let Some((_database, server)) =
        postgres("          rows: 100\n          limits: {max_result: 200kb}\n")
    else {
        return;
    };
    run(async {
        let path =
            format!("/cursors?series=select%20generate_series(1,250)%20as%20n&text={ENDLESS}");
        let found = ask(&server, &path).await;
        assert_eq!(
            (&found["sizes"], &found["sum"]),
            (&json!([100, 100, 50]), &json!(31375)),
            "{found}"
        );
        assert_eq!(
            (&found["seen"], &found["inside"]),
            (&json!(200), &json!(30))
        );
        assert_eq!(found["none"]["code"], "42703");
        assert_eq!(found["empty"], json!({ "done": true }));
        // The same without a cursor is a result bomb.
        for text in [ENDLESS, "select%20repeat('x',1000000)"] {
            let found = ask(&server, &format!("/run?text={text}")).await;
            assert_eq!(found["code"], "54000", "{found}");
        }
    });
}

#[test]
fn floods_of_statements_wait_or_are_refused() {
    let more = "          pool: 3\n          limits: {rate: 100000, handles: 3}\n";
    let Some((database, server)) = postgres(more) else {
        return;
    };
    run(async {
        // As many as may wait are all answered.
        assert_eq!(ask(&server, "/many?count=50").await, 50);
        let found = ask(&server, "/begins?count=900").await;
        assert_eq!(found["all"], 900, "{found}");
        assert!(found["most"].as_u64().unwrap() <= 3, "{found}");
        let names = found["names"].as_array().unwrap();
        assert!(names.contains(&json!("fulfilled")), "{found}");
        assert!(
            names
                .iter()
                .all(|name| ["fulfilled", "BusyError", "TimeoutError"]
                    .contains(&name.as_str().unwrap())),
            "{found}"
        );
        assert_eq!(ask(&server, "/many?count=3").await, 3);
        assert_eq!(ask(&server, "/driver").await, json!(["R", "R", "R"]));
    });
    let sessions = database.psql("select count(*) from pg_stat_activity where usename = 'app'");
    assert!(sessions.parse::<u32>().unwrap() <= 3, "{sessions}");
}

#[test]
fn transaction_that_never_ends_is_rolled_back() {
    let more = "          transaction: 10m\n          idle_in_transaction: 5s\n";
    let Some((database, server)) = postgres(more) else {
        return;
    };
    wait_for_transaction(&database, &server);
    assert_eq!(database.psql("select count(*) from t"), "0");
}

#[test]
fn transaction_of_a_killed_mirror_is_rolled_back() {
    let more = "          transaction: 10m\n          idle_in_transaction: 10m\n";
    let Some((database, server)) = postgres(more) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(server.get("a", "/never")));
        until(&database, "1");
        for pid in server.processes() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        until(&database, "0");
    });
    assert_eq!(database.psql("select count(*) from t"), "0");
}

/// Until as many transactions of guests are open and idle.
fn until(database: &Running, count: &str) {
    let begun = Instant::now();
    let open = "select count(*) from pg_stat_activity where usename = 'app' and state = 'idle in transaction'";
    while database.psql(open) != count {
        assert!(begun.elapsed() < PATIENCE);
    }
}

/// Begins a transaction that its guest never ends, and waits until it is there and gone.
fn wait_for_transaction(database: &Running, server: &Server) {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| run(server.get("a", "/never")));
        until(database, "1");
        until(database, "0");
        for pid in server.processes() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        drop(asked);
    });
}

#[test]
fn mysql_takes_statements_without_a_driver() {
    let Some(database) = database_servers::mariadb(&[]) else {
        return;
    };
    database.mariadb(&format!(
        "create user app@'%' identified by '{PASSWORD}'; grant all privileges on shop.* to app@'%'; \
         create table shop.t (a int) engine=innodb"
    ));
    let url = format!("mysql://app:{PASSWORD}@127.0.0.1:{}/shop", database.port);
    let guest = r#"
export default {
  async fetch(_, { DB: { sql } }) {
    const out = {};
    await sql`create table v (id int auto_increment primary key, n bigint, b blob, d decimal(30,10), w datetime(3), s text)
      character set utf8mb4`;
    const hostile = "'; drop table v; -- \\";
    const date = new Date("2026-02-03T04:05:06.789Z");
    const inserted = await sql`insert into v (n, b, d, w, s) values
      (${2n ** 63n - 1n}, ${new Uint8Array([0, 255])}, ${"1.5"}, ${date}, ${hostile})`;
    out.inserted = [inserted.count, inserted.lastInsertId];
    for (const rows of [await sql`select * from v`, await sql`select * from ${sql("v")} where id = ${1}`]) {
      const [{ n, b, d, w, s }] = rows;
      (out.rows ??= []).push([String(n), [...b], d, w.getTime() === date.getTime(), s === hostile]);
    }
    out.nested = await sql.begin(async (sql) => {
      await sql`insert into t values (${1})`;
      await sql.savepoint(async (sql) => { await sql`insert into t values (2)`; throw new Error("undone"); }).catch(() => {});
      return (await sql`select a from t`).map((row) => row.a);
    });
    await sql.begin(async (sql) => { await sql`insert into t values (3)`; throw new Error("undone"); }).catch(() => {});
    out.rest = (await sql`select a from t`).map((row) => row.a);
    out.sizes = [];
    for await (const rows of sql`select seq from seq_1_to_250 where seq > ${0}`.cursor(100)) out.sizes.push(rows.length);
    out.error = await sql`select nothing`.catch(({ name, code, errno }) => ({ name, code, errno }));
    out.json = (await sql`select json_value(${{ a: [1] }}, '$.a[0]') as j`)[0].j;
    return Response.json(out);
  },
};
"#;
    let server = serve_guest(guest, "mysql", "DB", &url, "");
    let found = run(async { server.get("a", "/").await.json() });
    let row = json!(["9223372036854775807", [0, 255], "1.5000000000", true, true]);
    assert_eq!(
        found,
        json!({
            "inserted": [1, 1], "rows": [row, row], "nested": [1], "rest": [1], "sizes": [100, 100, 50],
            "error": { "name": "DatabaseError", "code": "42S22", "errno": 1054 }, "json": "1",
        })
    );
}
