//! Statements of the supervisor, in sessions of doors to real servers.

use std::sync::Arc;
use std::time::Duration;

use stockade_door::{
    Begin, DatabaseError, Isolation, Limits, Parameter, PoolUse, Rows, SqlClient, SqlError,
    Statement, mysql, postgres,
};
use tokio::io::{DuplexStream, duplex};

use crate::guest::{soon, until};
use crate::local::wide;
use crate::servers::{Running, mariadb, postgres as postgresql};

fn statement(text: &str, parameters: &[Parameter]) -> Statement {
    Statement {
        text: text.to_owned(),
        parameters: parameters.to_vec(),
    }
}

pub(crate) fn text(text: &str) -> Parameter {
    Parameter::Text(text.to_owned())
}

/// The values of a result, row by row.
fn values(rows: &Rows) -> Vec<Vec<Option<String>>> {
    let (mut rest, width) = (&rows.cells[..], rows.columns.len());
    let mut cells = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = after.split_at(length.unwrap_or(0));
        cells.push(length.map(|_| String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    assert_eq!(cells.len() as u64, rows.rows * width as u64);
    cells.chunks(width.max(1)).map(<[_]>::to_vec).collect()
}

pub(crate) fn first(rows: &Rows) -> Vec<Option<String>> {
    values(rows).swap_remove(0)
}

fn error<T: std::fmt::Debug>(result: Result<T, SqlError>) -> DatabaseError {
    match result {
        Err(SqlError::Database(error)) => *error,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn query<C: SqlClient>(
    client: &mut C,
    sql: &str,
    parameters: &[Parameter],
) -> Result<Rows, SqlError> {
    soon(client.query(&statement(sql, parameters))).await
}

pub(crate) fn kinds(rows: &Rows) -> String {
    let kinds = rows.columns.iter().map(|column| {
        let array = if column.is_array { "[]" } else { "" };
        format!("{}{array}", column.kind.name())
    });
    kinds.collect::<Vec<_>>().join(" ")
}

fn postgres_stream(door: &Arc<postgres::Door>, owner: u64) -> DuplexStream {
    let (guest, stream) = duplex(16 << 10);
    let door = Arc::clone(door);
    tokio::spawn(async move { door.serve(owner, stream).await });
    guest
}

async fn postgres_client(
    door: &Arc<postgres::Door>,
    owner: u64,
    limits: &Limits,
) -> postgres::Client {
    let connected = postgres::Client::connect(postgres_stream(door, owner), limits);
    soon(connected).await.unwrap()
}

pub(crate) async fn mysql_client(
    door: &Arc<mysql::Door>,
    owner: u64,
    limits: &Limits,
) -> mysql::Client {
    let (guest, stream) = duplex(16 << 10);
    let door = Arc::clone(door);
    tokio::spawn(async move { door.serve(owner, stream).await });
    soon(mysql::Client::connect(guest, limits)).await.unwrap()
}

/// Sessions that sleep.
const SLEEPING: &str =
    "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and usename = 'app'";

/// Limits that tests of limits reach.
fn narrow() -> Limits {
    Limits {
        statement: Duration::from_secs(2),
        rows: 100,
        max_result: 100_000,
        max_request: 10_000,
        ..wide()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_statements_give_values_and_errors() {
    let Some(running) = postgresql(&[]) else {
        return;
    };
    crate::postgres::prepare(&running);
    let door = crate::postgres::door(&running, wide());
    let mut client = postgres_client(&door, 1, &wide()).await;

    // 1. Values of each kind, and parameters that stay values.
    let hostile = "'; drop table t; --\u{10ffff}\\";
    let rows = query(
        &mut client,
        "select $1::int8 as n, $2::bytea as b, $3::text as t, null as z, $4::numeric as d, $5::bool as y, \
         $6::float8 as f, '{\"a\":1}'::jsonb as j, array[1,null]::int8[] as l, now() as w, \
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid as u",
        &[
            Parameter::Integer(i64::MAX),
            Parameter::Bytes(vec![0, 255]),
            text(hostile),
            Parameter::Digits("9".repeat(200)),
            Parameter::Boolean(true),
            Parameter::Real(f64::NEG_INFINITY),
        ],
    )
    .await
    .unwrap();
    assert_eq!(
        kinds(&rows),
        "integer bytea text text text boolean number json integer[] date text"
    );
    let cells = first(&rows);
    let expected = ["9223372036854775807", "\\x00ff", hostile];
    for (cell, expected) in cells.iter().zip(expected) {
        assert_eq!(cell.as_deref(), Some(expected));
    }
    assert_eq!(cells[3], None);
    assert_eq!(cells[4], Some("9".repeat(200)));
    assert_eq!(
        cells[5..9].iter().flatten().collect::<Vec<_>>(),
        ["t", "-Infinity", "{\"a\": 1}", "{1,NULL}"]
    );
    let rows = query(
        &mut client,
        "insert into t values ($1), (2)",
        &[Parameter::Integer(1)],
    );
    let rows = rows.await.unwrap();
    assert_eq!((rows.command.as_str(), rows.count), ("INSERT", 2));

    // 2. Errors have their fields, and leave the session as it is.
    query(
        &mut client,
        "create temporary table u (a int constraint positive check (a > 0), b text not null)",
        &[],
    )
    .await
    .unwrap();
    let refused = error(query(&mut client, "insert into u values (-1, 'x')", &[]).await);
    assert_eq!(
        (
            refused.code.as_str(),
            refused.constraint.as_deref(),
            refused.table.as_deref()
        ),
        ("23514", Some("positive"), Some("u"))
    );
    let refused = error(query(&mut client, "insert into u values (1, null)", &[]).await);
    assert_eq!(
        (refused.code.as_str(), refused.column.as_deref()),
        ("23502", Some("b"))
    );
    let refused = error(query(&mut client, "select nothing", &[]).await);
    assert_eq!(
        (refused.code.as_str(), refused.position),
        ("42703", Some(8))
    );
    for (sql, parameters, code) in [
        ("select 1; select 2", &[][..], "42601"),
        ("select $1::int", &[text("x")], "22P02"),
        ("select $1::text", &[text("a\0b")], "22021"),
        (
            "select $1::int8",
            &[Parameter::Digits("9223372036854775808".to_owned())],
            "22003",
        ),
        ("select $1::int", &[], "08P01"),
        ("select 1\0", &[], "22021"),
    ] {
        let refused = error(query(&mut client, sql, parameters).await);
        assert_eq!(refused.code, code, "{sql}");
        assert!(client.is_usable());
    }
    // COPY has data of its own, so its session ends.
    let refused = error(query(&mut client, "copy t from stdin", &[]).await);
    assert_eq!(
        (refused.code.as_str(), client.is_usable()),
        ("0A000", false)
    );
    drop(client);
    until(|| door.usage().in_use == 0).await;
}

/// What a statement that was refused by a limit leaves: a session that goes on, or none.
async fn limited<C: SqlClient>(client: &mut C, sql: &str, code: &str) {
    let refused = error(query(client, sql, &[]).await);
    assert_eq!(refused.code, code, "{sql}");
    assert!(client.is_usable(), "{sql}");
    let rows = query(client, "select 7", &[]).await.unwrap();
    assert_eq!(first(&rows), [Some("7".to_owned())], "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_statements_have_the_limits_of_sessions() {
    let Some(running) = postgresql(&[]) else {
        return;
    };
    crate::postgres::prepare(&running);
    let limits = narrow();
    let door = crate::postgres::door(&running, limits.clone());
    let mut client = postgres_client(&door, 1, &limits).await;
    limited(&mut client, "select pg_sleep(1000)", "57014").await;
    limited(&mut client, "select generate_series(1, 10000000)", "54000").await;
    limited(
        &mut client,
        "select repeat('x', 1000) from generate_series(1, 1000000)",
        "54000",
    )
    .await;
    limited(&mut client, &" ".repeat(10_001), "54000").await;
    let rows = query(&mut client, "select generate_series(1, 100)", &[]).await;
    assert_eq!(rows.unwrap().rows, 100);

    // A cursor gives an endless result in parts, each within the limits, and only as it is asked.
    soon(client.begin(Begin::default())).await.unwrap();
    let endless = statement(
        "select repeat('x', 500), generate_series(1, 100000000)",
        &[],
    );
    let (cursor, rows) = soon(client.open(&endless, 50)).await.unwrap();
    assert!(rows.has_more && rows.rows == 50);
    for _ in 0..10 {
        let rows = soon(client.fetch(cursor, 100)).await.unwrap();
        assert!(rows.has_more && rows.rows == 100);
        assert_eq!(kinds(&rows), "text number");
    }
    soon(client.close(cursor)).await.unwrap();
    let few = statement(
        "select generate_series(1, $1::int)",
        &[Parameter::Integer(7)],
    );
    let (cursor, rows) = soon(client.open(&few, 5)).await.unwrap();
    assert!(rows.has_more);
    let rows = soon(client.fetch(cursor, 5)).await.unwrap();
    assert_eq!((rows.rows, rows.has_more), (2, false));
    assert_eq!(error(soon(client.fetch(cursor, 1)).await).code, "34000");
    drop(client);
    until(|| crate::postgres::working(&running) == "0").await;

    // Limits of transactions end the session, which says why.
    for (limits, code) in [
        (
            Limits {
                transaction: Duration::from_secs(1),
                ..wide()
            },
            "25P04",
        ),
        (
            Limits {
                idle_in_transaction: Duration::from_secs(1),
                ..wide()
            },
            "25P03",
        ),
    ] {
        let door = crate::postgres::door(&running, limits.clone());
        let mut client = postgres_client(&door, 1, &limits).await;
        soon(client.begin(Begin::default())).await.unwrap();
        query(&mut client, "insert into t values (3)", &[])
            .await
            .unwrap();
        until(|| crate::postgres::working(&running) == "0").await;
        assert_eq!(error(query(&mut client, "select 1", &[]).await).code, code);
        assert!(!client.is_usable());
        assert_eq!(running.psql("select count(*) from t"), "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_transactions_end_with_their_client() {
    let Some(running) = postgresql(&[]) else {
        return;
    };
    crate::postgres::prepare(&running);
    let door = crate::postgres::door(&running, wide());
    let rows = |running: &Running| running.psql("select count(*) from t");
    let insert = "insert into t values (1)";

    // 1. Committed, and dropped.
    let mut client = postgres_client(&door, 1, &wide()).await;
    soon(client.begin(Begin::default())).await.unwrap();
    query(&mut client, insert, &[]).await.unwrap();
    assert!(client.in_transaction());
    query(&mut client, "commit", &[]).await.unwrap();
    assert!(!client.in_transaction());
    assert_eq!(rows(&running), "1");
    soon(client.begin(Begin::default())).await.unwrap();
    query(&mut client, insert, &[]).await.unwrap();
    drop(client);
    until(|| crate::postgres::working(&running) == "0").await;
    assert_eq!(rows(&running), "1");

    // 2. One in which a statement failed answers a commit with what it did.
    let mut client = postgres_client(&door, 1, &wide()).await;
    soon(client.begin(Begin::default())).await.unwrap();
    error(query(&mut client, "select 1/0", &[]).await);
    let rows_ = query(&mut client, "commit", &[]).await.unwrap();
    assert_eq!(rows_.command, "ROLLBACK");

    // 3. Options.
    let begin = Begin {
        isolation: Some(Isolation::Serializable),
        read_only: true,
    };
    soon(client.begin(begin)).await.unwrap();
    let shown = query(
        &mut client,
        "select current_setting('transaction_isolation')",
        &[],
    )
    .await;
    assert_eq!(first(&shown.unwrap()), [Some("serializable".to_owned())]);
    assert_eq!(error(query(&mut client, insert, &[]).await).code, "25006");
    drop(client);

    // 4. A call that is dropped, and an owner that ends, while the server works.
    for ends in [false, true] {
        let mut client = postgres_client(&door, 2, &wide()).await;
        soon(client.begin(Begin::default())).await.unwrap();
        query(&mut client, insert, &[]).await.unwrap();
        let sleep = statement("select pg_sleep(1000)", &[]);
        let mut running_ = Box::pin(client.query(&sleep));
        tokio::select! {
            _ = &mut running_ => panic!("it must not end"),
            () = until(|| running.psql(SLEEPING) == "1") => {}
        }
        if ends {
            door.ended(2);
            let ended = soon(running_).await;
            assert!(matches!(ended, Err(SqlError::Closed)), "{ended:?}");
            assert!(!client.is_usable());
        } else {
            drop(running_);
            assert!(!client.is_usable());
            drop(client);
        }
        until(|| crate::postgres::working(&running) == "0").await;
        assert_eq!(rows(&running), "1");
    }

    // 5. A session whose client goes is reset and kept.
    let mut client = postgres_client(&door, 3, &wide()).await;
    query(&mut client, "set work_mem = '1MB'", &[])
        .await
        .unwrap();
    drop(client);
    until(|| door.usage() == PoolUse { in_use: 0, idle: 1 }).await;
    let mut client = postgres_client(&door, 4, &wide()).await;
    let shown = query(&mut client, "show work_mem", &[]).await.unwrap();
    assert_eq!(first(&shown), [Some("4MB".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_statements_give_values_and_errors() {
    let Some(running) = mariadb(&[]) else { return };
    crate::mysql::prepare(&running);
    let door = crate::mysql::door(&running, wide());
    let mut client = mysql_client(&door, 1, &wide()).await;
    query(
        &mut client,
        "create table v (n bigint, m bigint unsigned, b blob, s varchar(100), d decimal(30,10), f double, \
         w datetime(6), c time, t tinyint, e date) character set utf8mb4",
        &[],
    )
    .await
    .unwrap();
    let hostile = "'; drop table v; -- \u{10ffff}\\";
    let inserted = query(
        &mut client,
        "insert into v values (?, ?, ?, ?, ?, ?, ?, '-30:00:01', ?, ?)",
        &[
            Parameter::Integer(i64::MIN),
            Parameter::Digits("18446744073709551615".to_owned()),
            Parameter::Bytes(vec![0, 255]),
            text(hostile),
            text("12345678901234567890.0123456789"),
            Parameter::Real(0.1),
            text("2026-02-03 04:05:06.000007"),
            Parameter::Boolean(true),
            Parameter::Null,
        ],
    )
    .await
    .unwrap();
    assert_eq!(inserted.count, 1);
    // The same in both forms of results.
    for (sql, parameters) in [
        ("select * from v", &[][..]),
        ("select * from v where 1 = ?", &[Parameter::Integer(1)]),
    ] {
        let rows = query(&mut client, sql, parameters).await.unwrap();
        assert_eq!(
            kinds(&rows),
            "integer integer bytes text text number date text number date"
        );
        let cells = first(&rows);
        let shown: Vec<&str> = cells
            .iter()
            .map(|cell| cell.as_deref().unwrap_or("-"))
            .collect();
        assert_eq!(
            shown,
            [
                "-9223372036854775808",
                "18446744073709551615",
                "\0\u{fffd}",
                hostile,
                "12345678901234567890.0123456789",
                "0.1",
                "2026-02-03 04:05:06.000007",
                "-30:00:01",
                "1",
                "-"
            ]
        );
    }
    let refused = error(query(&mut client, "select nothing", &[]).await);
    assert_eq!(
        (refused.code.as_str(), refused.number),
        ("42S22", Some(1054))
    );
    let refused = error(query(&mut client, "select ?", &[Parameter::Null, Parameter::Null]).await);
    assert_eq!(refused.code, "07001");
    assert_eq!(
        error(query(&mut client, "select 1; select 2", &[]).await).number,
        Some(1064)
    );
    let rows = query(&mut client, "select ?", &[text("a\0b")])
        .await
        .unwrap();
    assert_eq!(first(&rows), [Some("a\0b".to_owned())]);
    // A procedure with results.
    query(
        &mut client,
        "create procedure p() begin select 1 as a; select 2 as b; end",
        &[],
    )
    .await
    .unwrap();
    let rows = query(&mut client, "call p()", &[]).await.unwrap();
    assert_eq!(first(&rows), [Some("1".to_owned())]);
    let rows = query(&mut client, "select 3", &[]).await.unwrap();
    assert_eq!(first(&rows), [Some("3".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_statements_have_the_limits_of_sessions() {
    let Some(running) = mariadb(&[]) else { return };
    crate::mysql::prepare(&running);
    let limits = narrow();
    let door = crate::mysql::door(&running, limits.clone());
    let mut client = mysql_client(&door, 1, &limits).await;
    limited(&mut client, "select sleep(1000)", "HY000").await;
    limited(&mut client, "select seq from seq_1_to_1000000", "42000").await;
    limited(
        &mut client,
        "select repeat('x', 1000) from seq_1_to_90, seq_1_to_2 as b",
        "42000",
    )
    .await;
    limited(&mut client, &" ".repeat(10_001), "54000").await;

    // A cursor gives a result in parts, each within the limits.
    soon(client.begin(Begin::default())).await.unwrap();
    let many = statement(
        "select seq from seq_1_to_1000 where seq > ?",
        &[Parameter::Integer(0)],
    );
    let (cursor, mut rows) = soon(client.open(&many, 50)).await.unwrap();
    let mut count = rows.rows;
    while rows.has_more {
        rows = soon(client.fetch(cursor, 100)).await.unwrap();
        count += rows.rows;
    }
    assert_eq!(count, 1000);
    assert_eq!(error(soon(client.fetch(cursor, 1)).await).code, "24000");
    query(&mut client, "rollback", &[]).await.unwrap();

    // Transactions: committed, dropped, idle for too long.
    let rows = |running: &Running| running.mariadb("select count(*) from shop.t");
    let insert = "insert into t values (1)";
    let begin = Begin {
        isolation: Some(Isolation::RepeatableRead),
        read_only: false,
    };
    soon(client.begin(begin)).await.unwrap();
    query(&mut client, insert, &[]).await.unwrap();
    assert!(client.in_transaction());
    query(&mut client, "commit", &[]).await.unwrap();
    assert!(!client.in_transaction());
    assert_eq!(rows(&running), "1");
    let read_only = Begin {
        read_only: true,
        ..Begin::default()
    };
    soon(client.begin(read_only)).await.unwrap();
    assert_eq!(
        error(query(&mut client, insert, &[]).await).number,
        Some(1792)
    );
    drop(client);
    until(|| door.usage().in_use == 0).await;
    let limits = Limits {
        idle_in_transaction: Duration::from_secs(1),
        ..wide()
    };
    let door = crate::mysql::door(&running, limits.clone());
    let mut client = mysql_client(&door, 1, &limits).await;
    soon(client.begin(Begin::default())).await.unwrap();
    query(&mut client, insert, &[]).await.unwrap();
    until(|| door.usage().in_use == 0).await;
    assert_eq!(
        error(query(&mut client, "select 1", &[]).await).number,
        Some(4031)
    );
    assert_eq!(rows(&running), "1");
}
