//! The door to MySQL itself, which has logins and types that MariaDB does not have.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use stockade_door::mysql::Door;
use stockade_door::{Dial, Limits, Parameter, Server, ServerStream, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::TcpStream;

use crate::certificate::{Certificate, untrusted};
use crate::local::{pool, wide};
use crate::mysql::{Answer, Client, open};
use crate::servers::{PASSWORD, Running, mysql};
use crate::sql::{first, kinds, mysql_client, query, text};

/// Reaches a server of this machine, and keeps what it sends and what it is sent.
#[derive(Clone)]
struct Recorded {
    port: u16,
    from_server: Arc<Mutex<Vec<u8>>>,
    to_server: Arc<Mutex<Vec<u8>>>,
}

impl Dial for Recorded {
    fn dial(&self) -> BoxFuture<'static, std::io::Result<ServerStream>> {
        let recorded = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, recorded.port)).await?;
            let (door, ours) = duplex(64 << 10);
            let (mut from_server, mut to_server) = stream.into_split();
            let (mut from_door, mut to_door) = tokio::io::split(ours);
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    recorded.from_server.lock().extend(&bytes[..read]);
                    if to_door.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
                let _ = to_door.shutdown().await;
            });
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = from_door.read(&mut bytes).await {
                    recorded.to_server.lock().extend(&bytes[..read]);
                    if to_server.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
                let _ = to_server.shutdown().await;
            });
            Ok(Box::new(door) as ServerStream)
        })
    }
}

/// What a server says in the middle of a login with `caching_sha2_password`: that it knows the password already, or
/// that it wants it itself.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Fast,
    Full,
}

impl Recorded {
    fn new(port: u16) -> Self {
        Self {
            port,
            from_server: Arc::default(),
            to_server: Arc::default(),
        }
    }

    /// The way that the login took, from the packet AuthMoreData of two bytes.
    fn way(&self) -> Option<Way> {
        let seen = self.from_server.lock();
        seen.windows(6).find_map(|bytes| match bytes {
            [2, 0, 0, _, 1, 3] => Some(Way::Fast),
            [2, 0, 0, _, 1, 4] => Some(Way::Full),
            _ => None,
        })
    }
}

fn has(bytes: &Mutex<Vec<u8>>, part: &str) -> bool {
    bytes
        .lock()
        .windows(part.len())
        .any(|window| window == part.as_bytes())
}

fn door(
    dial: impl Dial + 'static,
    running: &Running,
    tls: Option<Tls>,
    limits: Limits,
) -> Arc<Door> {
    let server = Server {
        dial: Arc::new(dial),
        tls,
        ..crate::local::server(running, "app", "shop")
    };
    Arc::new(Door::new(server, limits, pool()))
}

fn users(more: &str) -> String {
    format!(
        "create user app@'%' identified by '{PASSWORD}'{more}; grant all privileges on shop.* to app@'%'; \
         create table shop.t (a int)"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_login_without_tls_encrypts_the_password_and_is_short_the_second_time() {
    let Some(running) = mysql(&[], &users("")) else {
        return;
    };
    // 1. The server does not know the password, and gives its public key for it.
    for (way, key) in [(Way::Full, true), (Way::Fast, false)] {
        let recorded = Recorded::new(running.port);
        let door = door(recorded.clone(), &running, None, wide());
        let (mut client, answer) = Client::login(open(&door, 1), 0).await;
        assert_eq!(answer, Answer::default());
        let answer = client
            .query("select concat(current_user(), database())")
            .await;
        assert_eq!(answer.rows, ["app@%shop"]);
        assert_eq!(recorded.way(), Some(way));
        assert_eq!(has(&recorded.from_server, "BEGIN PUBLIC KEY"), key);
        assert!(
            !has(&recorded.to_server, PASSWORD),
            "the password is in the clear"
        );
        assert!(!String::from_utf8_lossy(&client.seen).contains(PASSWORD));
        assert!(client.greeting.starts_with(b"\x0a"));
    }
    // 2. A wrong password is refused, whether or not the server knows the right one.
    let mut server = crate::local::server(&running, "app", "shop");
    server.login.password = "wrong".to_owned();
    let door = Arc::new(Door::new(server, wide(), pool()));
    let (_, answer) = Client::login(open(&door, 1), 0).await;
    assert_eq!(answer.code(), 1045);
    assert!(!format!("{answer:?}").contains("wrong"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_login_over_tls_is_proven() {
    let certificate = Certificate::new();
    let options = [
        format!("--ssl-cert={}", certificate.certificate.display()),
        format!("--ssl-key={}", certificate.key.display()),
    ];
    let Some(running) = mysql(&options, &users(" require ssl")) else {
        return;
    };
    let limits = Limits {
        statement: Duration::from_millis(300),
        ..wide()
    };
    let through = |tls| {
        let recorded = Recorded::new(running.port);
        (
            door(recorded.clone(), &running, tls, limits.clone()),
            recorded,
        )
    };
    // The full login, and then the short one.
    for _ in 0..2 {
        let (door, recorded) = through(Some(certificate.trusted()));
        let (mut client, answer) = Client::login(open(&door, 1), 0).await;
        assert_eq!(answer, Answer::default());
        let answer = client.query("show session status like 'Ssl_version'").await;
        assert!(answer.rows[0].contains("TLSv1.3"), "{answer:?}");
        assert!(
            !has(&recorded.to_server, "app"),
            "the login is in the clear"
        );
        // A statement is killed over TLS too.
        client
            .query("set cte_max_recursion_depth = 4294967295")
            .await;
        let slow = "with recursive n as (select 1 as a union all select a + 1 from n where a < 100000000) \
                    select count(*) from n";
        assert_eq!(client.query(slow).await.code(), 3024);
        assert_eq!(client.query("select 'after'").await.rows, ["after"]);
    }
    for (tls, expected) in [(Some(untrusted()), 2003), (None, 1045)] {
        let (door, recorded) = through(tls);
        assert_eq!(Client::login(open(&door, 1), 0).await.1.code(), expected);
        assert!(!has(&recorded.to_server, PASSWORD));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_sessions_and_statements_are_as_those_of_mariadb() {
    let more =
        "; create user boss@'%' identified by 'x'; grant connection_admin on *.* to boss@'%'";
    let Some(running) = mysql(&[], &(users("") + more)) else {
        return;
    };
    let door = door(Recorded::new(running.port), &running, None, wide());

    // 1. Nothing of a session is left for the next one, on the same connection.
    let (mut client, _) = Client::login(open(&door, 1), 0).await;
    let connection = client.query("select connection_id()").await.rows;
    for statement in [
        "create temporary table left_over (a int)",
        "set @left = 7, autocommit = 0",
        "insert into t values (1)",
        "commit",
    ] {
        assert_eq!(
            client.query(statement).await,
            Answer::default(),
            "{statement}"
        );
    }
    drop(client);
    crate::guest::until(|| door.usage().in_use == 0).await;
    let (mut client, _) = Client::login(open(&door, 2), 0).await;
    assert_eq!(
        client.query("select connection_id()").await.rows,
        connection
    );
    let left = "select concat(database(), @@autocommit, @left is null, (select count(*) from t))";
    assert_eq!(client.query(left).await.rows, ["shop111"]);
    assert_eq!(client.query("select * from left_over").await.code(), 1146);

    // 2. What only MySQL has: values of JSON.
    let mut client = mysql_client(&door, 3, &wide()).await;
    let sql = "select cast(? as json) as j, ? + 0 as n, ? as t, cast('2026-02-03 04:05:06' as datetime) as d, \
               cast(1.50 as decimal(9,2)) as c, x'00ff' as b";
    let parameters = [
        text("{\"a\": [1, \"h\u{e9}\"]}"),
        Parameter::Integer(7),
        text("'; drop table t"),
    ];
    let rows = query(&mut client, sql, &parameters).await.unwrap();
    let kinds = kinds(&rows);
    assert!(kinds.starts_with("json "), "{kinds}");
    let cells = first(&rows);
    let cell = |at: usize| cells[at].as_deref().unwrap();
    assert_eq!(cell(0), "{\"a\": [1, \"h\u{e9}\"]}");
    assert_eq!(
        (cell(2), cell(3), cell(4)),
        ("'; drop table t", "2026-02-03 04:05:06", "1.50")
    );

    // 3. A user that may end what others do is refused, though it has no right of the names that MariaDB has.
    let mut server = crate::local::server(&running, "boss", "");
    server.login.password = "x".to_owned();
    let boss = Arc::new(Door::new(server, wide(), pool()));
    let error = boss.check().await.unwrap_err().to_string();
    assert!(error.contains("CONNECTION_ADMIN"), "{error}");
}
