//! The door to PostgreSQL.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use stockade_door::postgres::Door;
use stockade_door::{Limits, PoolLimits, PoolUse, Server};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::certificate::{Certificate, untrusted};
use crate::guest::{Answer, Postgres, frame, query, soon, until};
use crate::local::{Local, pool, wide};
use crate::servers::{PASSWORD, Running, postgres};

/// The role of guests, and a table for it.
pub(crate) fn prepare(running: &Running) {
    running.psql(&format!("create role app login password '{PASSWORD}'"));
    running.psql("create table t (a int); grant all on t to app");
}

fn server(running: &Running, user: &str) -> Server {
    crate::local::server(running, user, "shop")
}

/// A door whose sessions the server's administrator knows by a name.
pub(crate) fn made(server: Server, limits: Limits, pool: PoolLimits) -> Door {
    Door::new(server, "door-test".to_owned(), limits, pool)
}

pub(crate) fn door(running: &Running, limits: Limits) -> Arc<Door> {
    Arc::new(made(server(running, "app"), limits, pool()))
}

/// Opens a stream to the door for an owner.
fn open(door: &Arc<Door>, owner: u64) -> (DuplexStream, JoinHandle<()>) {
    let (guest, stream) = duplex(16 << 10);
    let door = Arc::clone(door);
    (
        guest,
        tokio::spawn(async move { door.serve(owner, stream).await }),
    )
}

async fn login(door: &Arc<Door>, owner: u64) -> Postgres {
    let (client, answer) = Postgres::login(open(door, owner).0, "").await;
    assert_eq!((answer.error, answer.state), (None, Some(b'I')));
    client
}

/// Sessions of the role of guests that do something, or have a transaction open.
pub(crate) fn working(running: &Running) -> String {
    running.psql("select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'")
}

pub(crate) fn sessions(running: &Running) -> String {
    running.psql("select count(*) from pg_stat_activity where usename = 'app'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_sessions_are_as_those_of_a_server() {
    let Some(running) = postgres(&[]) else { return };
    prepare(&running);
    let door = door(&running, wide());

    // 1. A login with any password, settings, and what a statement answers.
    let (mut client, answer) = Postgres::login(
        open(&door, 1).0,
        "application_name\0mine\0TimeZone\0Asia/Tokyo\0",
    )
    .await;
    assert_eq!(answer.state, Some(b'I'), "{answer:?}");
    assert!(
        answer.tags.starts_with("RS") && answer.tags.ends_with("SKZ"),
        "{}",
        answer.tags
    );
    let answer = client.query("select current_user || current_setting('TimeZone') || current_setting('application_name')").await;
    assert_eq!(answer.value(), "appAsia/Tokyomine");
    let answer = client.query("select 1/0").await;
    assert_eq!((answer.code(), answer.state), ("22012", Some(b'I')));
    assert!(!String::from_utf8_lossy(&client.seen).contains(PASSWORD));

    // 2. A connection is used again, and nothing of its session is left.
    client.query("create temporary table left_over (a int); set work_mem = '1MB'; select pg_advisory_lock(7); prepare p as select 1; listen l").await;
    let first = client
        .query("select pg_backend_pid()")
        .await
        .value()
        .to_owned();
    client.send(&frame(b'X', b"")).await;
    until(|| door.usage() == PoolUse { in_use: 0, idle: 1 }).await;
    let mut client = login(&door, 2).await;
    assert_eq!(client.query("select pg_backend_pid()").await.value(), first);
    let left = "select concat(to_regclass('left_over'), (select count(*) from pg_prepared_statements), \
        (select count(*) from pg_locks where locktype = 'advisory'), (select count(*) from pg_listening_channels()), \
        current_setting('work_mem'), current_setting('application_name'))";
    assert_eq!(client.query(left).await.value(), "0004MBdoor-test");

    // 3. One with an open transaction is not, and the transaction is rolled back, however the guest goes.
    for end in [Some(frame(b'X', b"")), None] {
        let mut client = login(&door, 3).await;
        assert_eq!(
            client.query("begin; insert into t values (1)").await.state,
            Some(b'T')
        );
        assert_eq!(working(&running), "1");
        match end {
            Some(bytes) => client.send(&bytes).await,
            None => drop(client.stream),
        }
        until(|| working(&running) == "0").await;
        assert_eq!(running.psql("select count(*) from t"), "0");
    }

    // 4. A guest that goes while the server works, or while it reads nothing, or in the middle of a message.
    for bytes in [
        query("begin; select pg_sleep(1000)"),
        query("begin; select repeat('x', 1000) from generate_series(1, 10000)"),
        [query("begin"), query("select 1")[..7].to_vec()].concat(),
        [
            query("begin"),
            frame(b'P', b"\0select pg_sleep(1000)\0\0\0"),
            frame(b'B', &[0; 8]),
            frame(b'E', &[0; 5]),
            frame(b'H', b""),
        ]
        .concat(),
    ] {
        let mut client = login(&door, 4).await;
        client.send(&bytes).await;
        until(|| working(&running) == "1").await;
        drop(client.stream);
        until(|| working(&running) == "0").await;
    }
    // An owner that has ended, with its stream still open.
    let mut client = login(&door, 5).await;
    client.send(&query("select pg_sleep(1000)")).await;
    until(|| working(&running) == "1").await;
    door.ended(5);
    until(|| working(&running) == "0").await;

    // 5. Cancellation, by the key of the same owner alone.
    let mut client = login(&door, 6).await;
    client.send(&query("select pg_sleep(1000)")).await;
    until(|| working(&running) == "1").await;
    for (owner, is_cancelled) in [(7, false), (6, true)] {
        let (mut stream, served) = open(&door, owner);
        let bytes = [&[0, 0, 0, 16, 4, 210, 22, 46], &client.key[..]].concat();
        soon(tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes))
            .await
            .unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
        soon(served).await.unwrap();
        if is_cancelled {
            assert_eq!(client.answer().await.code(), "57014");
        } else {
            assert_eq!(working(&running), "1");
        }
    }

    // 6. COPY in both directions, and messages sent together.
    let mut client = login(&door, 8).await;
    client.send(&query("copy t from stdin")).await;
    client
        .send(
            &[
                frame(b'd', b"1\n2\n"),
                frame(b'd', b"3\n"),
                frame(b'c', b""),
            ]
            .concat(),
        )
        .await;
    assert_eq!(client.answer().await.tags, "GCZ");
    let answer = client.query("copy t to stdout").await;
    assert_eq!(answer.tags, "HdddcCZ");
    client
        .send(&[query("select 1"), query("select 2"), query("begin")].concat())
        .await;
    assert_eq!(client.answer().await.value(), "1");
    assert_eq!(client.answer().await.value(), "2");
    assert_eq!(client.answer().await.state, Some(b'T'));

    // The role may not run programs, or read the server's files.
    client.query("rollback").await;
    for statement in ["copy t from program 'id'", "copy t from '/etc/passwd'"] {
        assert_eq!(client.query(statement).await.code(), "42501");
    }

    // 7. A server that goes away ends the session.
    running.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    let answer = client.answer().await;
    assert_eq!((answer.code(), answer.state), ("57P01", None));
    until(|| sessions(&running) == "0").await;
    // Kept connections that the server has closed are not used.
    login(&door, 8).await;
}

/// What a statement answers at limits.
async fn limited(
    running: &Running,
    limits: Limits,
    statements: &[&str],
) -> (Vec<Answer>, Postgres) {
    let door = door(running, limits);
    let mut client = login(&door, 1).await;
    let mut answers = Vec::new();
    for statement in statements {
        answers.push(client.query(statement).await);
    }
    (answers, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_limits_are_enforced_by_the_door() {
    let Some(running) = postgres(&[]) else { return };
    prepare(&running);
    let short = Duration::from_secs(1);

    // 1. The time of a statement, whatever the guest sets. The session goes on.
    let limits = Limits {
        statement: short,
        ..wide()
    };
    let statements = [
        "set statement_timeout = 0",
        "select pg_sleep(1000)",
        "select 'after'",
    ];
    let (answers, _) = limited(&running, limits.clone(), &statements).await;
    let message = "the statement ran longer than the 1s that this grant allows";
    assert_eq!(
        answers[1].error,
        Some(("57014".to_owned(), message.to_owned()))
    );
    assert_eq!(answers[2].value(), "after");
    // A statement that catches its cancellation ends with its process.
    let stubborn = "do $$ begin loop begin perform pg_sleep(1000); exception when query_canceled then end; end loop; end $$";
    let (answers, _) = limited(&running, limits, &[stubborn]).await;
    assert_eq!((answers[0].code(), answers[0].state), ("57014", None));

    until(|| working(&running) == "0").await;

    // 2. Rows. The session goes on, and a result of the limit's size passes.
    let limits = Limits {
        rows: 100,
        ..wide()
    };
    let statements = [
        "select generate_series(1, 100)",
        "select generate_series(1, 10000000)",
        "select 'after'",
    ];
    let (answers, _) = limited(&running, limits.clone(), &statements).await;
    assert_eq!(answers[0].rows.len(), 100);
    assert_eq!(
        (answers[1].rows.len(), answers[1].code(), answers[1].state),
        (100, "54000", Some(b'I'))
    );
    assert_eq!(answers[2].value(), "after");
    let statements = ["copy (select generate_series(1, 10000000)) to stdout"];
    assert_eq!(
        limited(&running, limits, &statements).await.0[0].code(),
        "54000"
    );

    // 3. Bytes: of rows, of one row, of an error, and of notices.
    let limits = Limits {
        max_result: 100_000,
        ..wide()
    };
    let many = "select repeat('x', 1000) from generate_series(1, 1000000)";
    let statements = [
        "select repeat('x', 90000)",
        "select repeat('x', 100000)",
        many,
        "select 'after'",
    ];
    let (answers, _) = limited(&running, limits.clone(), &statements).await;
    assert_eq!(answers[0].value().len(), 90_000);
    // A row that is the last one is refused when the server is done: the session ends.
    assert_eq!((answers[1].code(), answers[1].rows.len()), ("54000", 0));
    for statement in [
        many,
        "do $$ begin raise exception '%', repeat('x', 100000); end $$",
        "do $$ begin for i in 1..1000000 loop raise notice '%', repeat('x', 1000); end loop; end $$",
    ] {
        let (answers, _) = limited(&running, limits.clone(), &[statement]).await;
        assert_eq!(answers[0].code(), "54000", "{statement}");
    }

    // 4. A transaction that is open for too long, and one in which nothing is asked for. Both end the session.
    let limits = Limits {
        transaction: short,
        ..wide()
    };
    let (answers, mut client) =
        limited(&running, limits, &["begin", "insert into t values (1)"]).await;
    assert_eq!(answers[1].error, None);
    assert_eq!(client.answer().await.code(), "25P04");
    let limits = Limits {
        idle_in_transaction: short,
        ..wide()
    };
    let (answers, mut client) =
        limited(&running, limits, &["begin", "insert into t values (1)"]).await;
    assert_eq!(answers[1].error, None);
    assert_eq!(client.answer().await.code(), "25P03");
    let limits = Limits {
        idle: short,
        ..wide()
    };
    let (_, mut client) = limited(&running, limits, &["select 1"]).await;
    assert_eq!(client.answer().await.code(), "57P05");
    until(|| working(&running) == "0").await;
    assert_eq!(running.psql("select count(*) from t"), "0");

    // 5. A message that is too long is refused before it is stored.
    let limits = Limits {
        max_request: 1000,
        ..wide()
    };
    let (_, mut client) = limited(&running, limits, &[]).await;
    client.send(b"Q\x7f\xff\xff\xff").await;
    assert_eq!(client.answer().await.code(), "54000");

    // 6. A guest that never reads, with more answers than all buffers hold, ends by the statement's time.
    // The rows come at once: of a series in FROM, the server makes all before it sends one.
    let limits = Limits {
        // It has to be seen at work before it ends.
        statement: Duration::from_secs(5),
        max_result: u64::MAX,
        rows: u64::MAX,
        ..wide()
    };
    let door = door(&running, limits);
    let mut client = login(&door, 1).await;
    client
        .send(&query(
            "select repeat('x', 1000), generate_series(1, 100000000)",
        ))
        .await;
    until(|| working(&running) == "1").await;
    until(|| working(&running) == "0").await;
    until(|| door.usage().in_use == 0).await;
    // One that sends, and never reads, is stopped by its full stream, and ends when it goes.
    let mut client = login(&door, 2).await;
    let flood = query("select repeat('x', 1000)").repeat(1000);
    let sent = tokio::time::timeout(short, client.send(&flood)).await;
    drop((sent, client));
    until(|| door.usage().in_use == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_guests_that_forge_frames_end_alone() {
    let Some(running) = postgres(&[]) else { return };
    prepare(&running);
    let door = door(&running, wide());
    let mut control = login(&door, 1).await;
    for bytes in [
        b"Q\0\0\0\0".to_vec(),
        b"Q\0\0\0\x03".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        frame(b'p', b"password\0"),
        frame(b'R', &[0; 4]),
        frame(0, b""),
        frame(0xff, b""),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        [query("select 1"), frame(b'?', b"")].concat(),
    ] {
        let mut client = login(&door, 2).await;
        client.send(&bytes).await;
        let mut last = client.answer().await;
        while last.state.is_some() {
            last = client.answer().await;
        }
        assert!(
            ["08P01", "54000"].contains(&last.code()),
            "{bytes:?}: {last:?}"
        );
    }
    // What the server itself refuses leaves the session as it is; only the door's rules are tested here.
    for bytes in [
        frame(b'Q', b"no zero"),
        frame(b'B', b""),
        frame(b'E', b"\xff"),
        frame(b'F', b""),
    ] {
        let mut client = login(&door, 2).await;
        client.send(&[bytes, frame(b'S', b"")].concat()).await;
        let answer = client.answer().await;
        assert!(answer.error.is_some(), "{answer:?}");
    }
    // A Sync that the server does not answer, in the middle of COPY, makes the session look busy, never idle.
    let mut client = login(&door, 2).await;
    client.send(&query("copy t from stdin")).await;
    client
        .send(&[frame(b'S', b""), frame(b'c', b"")].concat())
        .await;
    assert_eq!(client.answer().await.tags, "GCZ");
    drop(client);
    until(|| door.usage().in_use == 1).await;

    // Logins in a row are bounded, and so are the connections of one owner.
    let pool = PoolLimits {
        connections: 3,
        per_owner: 2,
        attempts: 3,
        connect: Duration::from_secs(2),
        ..PoolLimits::default()
    };
    let bounded = Arc::new(made(server(&running, "app"), wide(), pool));
    let _first = login(&bounded, 1).await;
    let _second = login(&bounded, 1).await;
    for (owner, expected) in [(1, "2 connections"), (2, ""), (3, "all 3 connections")] {
        let (client, answer) = Postgres::login(open(&bounded, owner).0, "").await;
        let message = answer.error.map_or(String::new(), |error| error.1);
        assert!(message.contains(expected), "{owner}: {message}");
        if owner == 2 {
            assert_eq!(message, "");
            std::mem::forget(client);
        }
    }
    assert_eq!(
        control.query("select 'still here'").await.value(),
        "still here"
    );
}

/// Why a login through a door of this server fails.
async fn refusal(server: Server) -> (String, String) {
    let door = Arc::new(made(server, wide(), PoolLimits::default()));
    let (client, answer) = Postgres::login(open(&door, 1).0, "").await;
    let seen = String::from_utf8_lossy(&client.seen).into_owned();
    for hidden in [PASSWORD, "127.0.0.1", "localhost", "pg_hba"] {
        assert!(!seen.contains(hidden), "{seen}");
    }
    answer.error.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_logins_are_made_by_the_supervisor() {
    let Some(running) = postgres(&[]) else { return };
    prepare(&running);

    // 1. Roles that may do too much are refused, unless the grant says otherwise.
    running.psql(&format!(
        "create role reader login password '{PASSWORD}' in role pg_read_server_files; \
         create role maker login createrole password '{PASSWORD}'; create role member login password '{PASSWORD}' in role admin"
    ));
    for role in ["admin", "reader", "maker", "member"] {
        let refused = refusal(server(&running, role)).await;
        assert_eq!(refused.0, "28000", "{role}: {refused:?}");
        let trusted = Server {
            allow_superuser: true,
            ..server(&running, role)
        };
        assert_eq!(refusal(trusted).await.0, "");
    }
    assert_eq!(refusal(server(&running, "app")).await.0, "");

    // 2. What the guest learns of a server that refuses, or is not there.
    let mut wrong = server(&running, "app");
    wrong.login.password = "wrong".to_owned();
    assert_eq!(refusal(wrong.clone()).await.0, "28000");
    let check = made(wrong, wide(), PoolLimits::default()).check().await;
    assert!(check.unwrap_err().to_string().contains("28P01"));
    let absent = Server {
        dial: Arc::new(Local(1)),
        ..server(&running, "app")
    };
    assert_eq!(refusal(absent).await.0, "08006");

    // 3. MD5, and a password that is refused without TLS.
    running.psql("create role old login");
    running.psql(&format!(
        "set password_encryption = md5; alter role old password '{PASSWORD}'"
    ));
    let rules = running.folder.path().join("data/pg_hba.conf");
    let others = fs::read_to_string(&rules).unwrap();
    let write = |first: &str| {
        fs::write(&rules, format!("{first}\n{others}")).unwrap();
        running.psql("select pg_reload_conf()");
    };
    write("host shop old all md5");
    let loaded = |method: &str| {
        let rule = format!("select count(*) from pg_hba_file_rules where auth_method = '{method}'");
        running.psql(&rule) == "1"
    };
    until(|| loaded("md5")).await;
    // The postmaster reads its rules a moment later.
    soon(async { while refusal(server(&running, "old")).await != Default::default() {} }).await;
    write("host shop app all password");
    soon(async { while refusal(server(&running, "app")).await.0 != "28000" {} }).await;

    // 4. TLS with a certificate that is proven, and SCRAM bound to it.
    let absent = Server {
        tls: Some(untrusted()),
        ..server(&running, "admin")
    };
    assert_eq!(
        refusal(absent).await.1,
        "the database's TLS failed; the operator's log says why"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tls_is_proven_and_bound_to_the_login() {
    let certificate = Certificate::new();
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.certificate.display()),
        format!("ssl_key_file={}", certificate.key.display()),
        "log_connections=on".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(running) = postgres(&settings) else {
        return;
    };
    prepare(&running);
    let trusted = Server {
        tls: Some(certificate.trusted()),
        ..server(&running, "app")
    };
    let door = Arc::new(made(trusted.clone(), wide(), PoolLimits::default()));
    let mut client = login(&door, 1).await;
    let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(client.query(ssl).await.value(), "t");
    // A cancellation uses TLS too.
    let limits = Limits {
        statement: Duration::from_millis(500),
        ..wide()
    };
    let door = Arc::new(made(trusted, limits, PoolLimits::default()));
    let mut client = login(&door, 1).await;
    assert_eq!(client.query("select pg_sleep(1000)").await.code(), "57014");
    // A certificate that no root signs.
    let other = Server {
        tls: Some(untrusted()),
        ..server(&running, "app")
    };
    assert_eq!(
        refusal(other).await.1,
        "the database's TLS failed; the operator's log says why"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_drivers_of_npm_work_unchanged() {
    let Some(running) = postgres(&[]) else { return };
    prepare(&running);
    let door = door(&running, wide());
    crate::drivers::run("postgres", |stream| {
        let door = Arc::clone(&door);
        async move { door.serve(1, stream).await }
    })
    .await;
}
