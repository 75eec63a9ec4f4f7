//! The door to MySQL and MariaDB. The server is MariaDB, the one that Debian has.

use std::sync::Arc;
use std::time::Duration;

use stockade_door::mysql::Door;
use stockade_door::{Limits, PoolLimits, PoolUse, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::certificate::{Certificate, untrusted};
use crate::guest::{soon, until};
use crate::local::{pool, wide};
use crate::servers::{PASSWORD, Running, mariadb};

pub(crate) fn prepare(running: &Running) {
    running.mariadb(&format!(
        "create user app@'%' identified by '{PASSWORD}'; grant all privileges on shop.* to app@'%'; \
         create table shop.t (a int) engine=innodb"
    ));
}

fn server(running: &Running, user: &str) -> Server {
    crate::local::server(running, user, "shop")
}

pub(crate) fn door(running: &Running, limits: Limits) -> Arc<Door> {
    Arc::new(Door::new(server(running, "app"), limits, pool()))
}

pub(crate) fn open(door: &Arc<Door>, owner: u64) -> DuplexStream {
    let (guest, stream) = duplex(16 << 10);
    let door = Arc::clone(door);
    tokio::spawn(async move { door.serve(owner, stream).await });
    guest
}

/// A client that speaks the protocol by hand.
pub(crate) struct Client {
    stream: DuplexStream,
    pub(crate) greeting: Vec<u8>,
    pub(crate) seen: Vec<u8>,
}

/// What came up to the end of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<String>,
    pub(crate) error: Option<(u16, String)>,
    is_at_end: bool,
}

impl Answer {
    pub(crate) fn code(&self) -> u16 {
        self.error.as_ref().map_or(0, |error| error.0)
    }
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

fn query(statement: &str) -> Vec<u8> {
    packet(0, format!("\u{3}{statement}").as_bytes())
}

impl Client {
    /// Reads the greeting and logs in with `flags`, and a password that is wrong.
    pub(crate) async fn login(stream: DuplexStream, flags: u32) -> (Self, Answer) {
        let mut client = Self {
            stream,
            greeting: Vec::new(),
            seen: Vec::new(),
        };
        let Some((_, greeting)) = client.receive().await else {
            return (
                client,
                Answer {
                    is_at_end: true,
                    ..Answer::default()
                },
            );
        };
        if greeting[0] == 0xff {
            return (
                client,
                Answer {
                    error: Some(read_error(&greeting)),
                    ..Answer::default()
                },
            );
        }
        client.greeting = greeting;
        let mut answer = (flags | 0x8_8200).to_le_bytes().to_vec();
        answer.extend([0, 0, 0, 1, 45]);
        answer.extend([0; 23]);
        answer.extend(b"guest\0\x05wrongany\0mysql_native_password\0");
        client.send(&packet(1, &answer)).await;
        let answer = client.answer().await;
        (client, answer)
    }

    async fn send(&mut self, bytes: &[u8]) {
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 4];
        soon(self.stream.read_exact(&mut header)).await.ok()?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; length as usize];
        soon(self.stream.read_exact(&mut payload)).await.ok()?;
        self.seen.extend(&payload);
        Some((header[3], payload))
    }

    /// The answer to a command: `OK`, an error, or rows of one column.
    async fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        let (mut ends, mut last) = (0, None);
        loop {
            let Some((sequence, payload)) = self.receive().await else {
                answer.is_at_end = true;
                return answer;
            };
            if let Some(last) = last {
                assert_eq!(sequence, u8::wrapping_add(last, 1), "packets are in order");
            }
            last = Some(sequence);
            match payload[0] {
                0xff => {
                    answer.error = Some(read_error(&payload));
                    return answer;
                }
                0 if ends == 0 => return answer,
                0xfe if payload.len() < 9 => {
                    ends += 1;
                    if ends == 2 {
                        return answer;
                    }
                }
                _ if ends == 1 => {
                    let skip = match payload[0] {
                        0xfc => 3,
                        0xfd => 4,
                        _ => 1,
                    };
                    answer
                        .rows
                        .push(String::from_utf8_lossy(&payload[skip..]).into_owned());
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn query(&mut self, statement: &str) -> Answer {
        self.send(&query(statement)).await;
        self.answer().await
    }
}

fn read_error(payload: &[u8]) -> (u16, String) {
    let code = u16::from_le_bytes([payload[1], payload[2]]);
    (code, String::from_utf8_lossy(&payload[9..]).into_owned())
}

async fn login(door: &Arc<Door>, owner: u64) -> Client {
    let (client, answer) = Client::login(open(door, owner), 0).await;
    assert_eq!(answer, Answer::default());
    client
}

/// Connections of the user of guests that do something.
fn working(running: &Running) -> String {
    running.mariadb("select count(*) from information_schema.processlist where user = 'app' and command <> 'Sleep'")
}

fn transactions(running: &Running) -> String {
    running.mariadb("select count(*) from information_schema.innodb_trx")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_sessions_are_as_those_of_a_server() {
    let Some(running) = mariadb(&[]) else { return };
    prepare(&running);
    let door = door(&running, wide());

    // 1. A login with any password, and what a statement answers.
    let mut client = login(&door, 1).await;
    assert!(client.greeting.windows(7).any(|part| part == b"MariaDB"));
    let answer = client
        .query("select concat(current_user(), database(), @@character_set_client)")
        .await;
    assert_eq!(answer.rows, ["app@%shoputf8mb4"]);
    assert_eq!(client.query("select * from nothing").await.code(), 1146);
    assert!(!String::from_utf8_lossy(&client.seen).contains(PASSWORD));
    // Prepared statements: two parameters and one column; then executed with none that are null.
    client.send(&packet(0, b"\x16select ? + ?")).await;
    let (_, prepared) = client.receive().await.unwrap();
    assert_eq!(prepared[0], 0);
    for _ in 0..5 {
        client.receive().await.unwrap();
    }
    let execute = [
        &[0x17][..],
        &prepared[1..5],
        &[
            0, 1, 0, 0, 0, 0, 1, 8, 0, 8, 0, 40, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        ],
    ]
    .concat();
    client.send(&packet(0, &execute)).await;
    let answer = client.answer().await;
    assert!(answer.rows[0].contains(char::from(42)), "{answer:?}");
    client
        .send(&packet(0, &[&[0x19][..], &prepared[1..5]].concat()))
        .await;
    assert_eq!(client.query("select 'after'").await.rows, ["after"]);

    // 2. A connection is used again, and nothing of its session is left.
    client
        .query("create temporary table left_over (a int)")
        .await;
    client.query("set @left = 7, autocommit = 0").await;
    client.query("use information_schema").await;
    let first = client.query("select connection_id()").await.rows;
    client.send(&packet(0, &[1])).await;
    until(|| door.usage() == PoolUse { in_use: 0, idle: 2 }).await;
    let mut client = login(&door, 2).await;
    assert_eq!(client.query("select connection_id()").await.rows, first);
    let left =
        "select concat(database(), if(@@autocommit, 1, 0), @left is null, @@character_set_client)";
    assert_eq!(client.query(left).await.rows, ["shop11utf8mb4"]);
    assert_eq!(client.query("select * from left_over").await.code(), 1146);

    // 3. Several statements and results in one command, if the guest has chosen so.
    let (mut several, _) = Client::login(open(&door, 3), 3 << 16).await;
    several
        .send(&query("select 1; begin; select 2; select 3 from nothing"))
        .await;
    assert_eq!(several.answer().await.rows, ["1"]);
    drop(several);
    assert_eq!(client.query("select 1; select 2").await.code(), 1064);

    // 4. Open transactions are rolled back, however the guest goes; so is what runs.
    for bytes in [
        packet(0, &[1]),
        query("select sleep(1000)"),
        query("select repeat('x', 1000) from seq_1_to_1000000"),
        query("select 1")[..7].to_vec(),
    ] {
        let mut client = login(&door, 4).await;
        client.query("begin").await;
        assert_eq!(
            client.query("insert into t values (1)").await,
            Answer::default()
        );
        client.send(&bytes).await;
        if bytes.len() > 12 {
            until(|| working(&running) == "1").await;
        }
        drop(client);
        until(|| transactions(&running) == "0" && working(&running) == "0").await;
        assert_eq!(running.mariadb("select count(*) from shop.t"), "0");
    }
    // An owner that has ended, with its stream still open.
    let mut client = login(&door, 5).await;
    client.send(&query("select sleep(1000)")).await;
    until(|| working(&running) == "1").await;
    door.ended(5);
    until(|| working(&running) == "0").await;
}

async fn limited(running: &Running, limits: Limits, statements: &[&str]) -> (Vec<Answer>, Client) {
    let door = door(running, limits);
    let mut client = login(&door, 1).await;
    let mut answers = Vec::new();
    for statement in statements {
        answers.push(client.query(statement).await);
    }
    (answers, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_limits_are_enforced_by_the_door() {
    let Some(running) = mariadb(&[]) else { return };
    prepare(&running);
    let short = Duration::from_secs(1);

    // 1. The time of a statement, whatever the guest sets. The session goes on.
    let limits = Limits {
        statement: short,
        ..wide()
    };
    let slow = "select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b";
    let (answers, _) = limited(
        &running,
        limits.clone(),
        &["set max_statement_time = 0", slow, "select 'after'"],
    )
    .await;
    let message = "the statement ran longer than the 1s that this grant allows";
    assert_eq!(answers[1].error, Some((3024, message.to_owned())));
    assert_eq!(answers[2].rows, ["after"]);

    // 2. Rows and bytes. The session goes on.
    let limits = Limits {
        rows: 100,
        ..wide()
    };
    let statements = [
        "select * from seq_1_to_100",
        "select * from seq_1_to_100000000",
        "select * from seq_1_to_101",
        "select 'after'",
    ];
    let (answers, _) = limited(&running, limits, &statements).await;
    assert_eq!((answers[0].rows.len(), answers[0].code()), (100, 0));
    for answer in &answers[1..3] {
        assert_eq!((answer.rows.len(), answer.code()), (100, 1104));
    }
    assert_eq!(answers[3].rows, ["after"]);
    let limits = Limits {
        max_result: 100_000,
        ..wide()
    };
    let statements = [
        "select repeat('x', 90000)",
        "select repeat('x', 100000)",
        "select repeat('x', 1000) from seq_1_to_1000000",
        "select 'after'",
    ];
    let (answers, _) = limited(&running, limits, &statements).await;
    assert_eq!(answers[0].rows[0].len(), 90_000);
    assert_eq!((answers[1].code(), answers[2].code()), (1104, 1104));
    assert_eq!(answers[3].rows, ["after"]);

    // 3. Transactions, and sessions that are idle. They end.
    for (limits, statements) in [
        (
            Limits {
                transaction: short,
                ..wide()
            },
            &["begin", "insert into t values (1)"][..],
        ),
        (
            Limits {
                idle_in_transaction: short,
                ..wide()
            },
            &["begin", "insert into t values (1)"],
        ),
        (
            Limits {
                idle: short,
                ..wide()
            },
            &["select 1"],
        ),
    ] {
        let (answers, mut client) = limited(&running, limits, statements).await;
        assert_eq!(answers.last().unwrap().error, None);
        let end = client.answer().await;
        assert_eq!(end.code(), 4031, "{end:?}");
    }
    until(|| transactions(&running) == "0").await;
    assert_eq!(running.mariadb("select count(*) from shop.t"), "0");

    // 4. A guest that never reads ends by the statement's time.
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
        .send(&query("select repeat('x', 1000) from seq_1_to_100000000"))
        .await;
    until(|| working(&running) == "1").await;
    until(|| working(&running) == "0" && door.usage().in_use == 0).await;

    // 5. A command that is too long is refused before it is stored.
    let limits = Limits {
        max_request: 1000,
        ..wide()
    };
    let (_, mut client) = limited(&running, limits, &[]).await;
    client.send(b"\xff\xff\xff\0\x03").await;
    assert_eq!(client.answer().await.code(), 1153);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_guests_that_forge_packets_end_alone() {
    let Some(running) = mariadb(&[]) else { return };
    prepare(&running);
    running.mariadb("set global local_infile = 1");
    let door = door(&running, wide());
    let mut control = login(&door, 1).await;
    for bytes in [
        &b"\0\0\0\0"[..],
        b"\x01\0\0\x01\x03",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = login(&door, 2).await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!(answer.code(), 1047, "{bytes:?}: {answer:?}");
    }
    // Commands that change the user, shut the server down, replicate, or change how answers are read.
    for code in [0x08, 0x0c, 0x11, 0x12, 0x1b, 0x1e, 0xfa, 0xff] {
        let mut client = login(&door, 2).await;
        client.send(&packet(0, &[code, 0, 0])).await;
        assert_eq!(client.answer().await.code(), 1047, "{code}");
        assert_eq!(client.query("select 'after'").await.rows, ["after"]);
    }
    // A file of the client is never asked for.
    let answer = control
        .query("load data local infile '/etc/passwd' into table t")
        .await;
    assert_ne!(answer.code(), 0, "{answer:?}");
    // Answers to the greeting.
    for answer in [&b""[..], b"\0\0", &[0xff; 40], &[0; 40]] {
        let mut stream = open(&door, 3);
        let mut header = [0; 4];
        soon(stream.read_exact(&mut header)).await.unwrap();
        let mut greeting = vec![0; usize::from(header[0])];
        soon(stream.read_exact(&mut greeting)).await.unwrap();
        soon(stream.write_all(&packet(1, answer))).await.unwrap();
        soon(stream.read_exact(&mut header)).await.unwrap();
        assert_eq!(soon(stream.read_u8()).await.unwrap(), 0xff);
    }
    assert_eq!(
        control.query("select 'still here'").await.rows,
        ["still here"]
    );

    // Users that may do too much are refused, unless the grant says otherwise.
    running.mariadb(&format!(
        "create user reader@'%' identified by '{PASSWORD}'; grant file on *.* to reader@'%'; \
         create role filer; grant file on *.* to filer; create user member@'%' identified by '{PASSWORD}'; \
         grant all privileges on shop.* to member@'%'; grant filer to member@'%'; \
         grant all privileges on shop.* to reader@'%'"
    ));
    for user in ["admin", "reader", "member"] {
        let refused = |server: Server| async move {
            let door = Arc::new(Door::new(server, wide(), PoolLimits::default()));
            Client::login(open(&door, 1), 0).await.1
        };
        let answer = refused(server(&running, user)).await;
        assert_eq!(answer.code(), 1045, "{user}: {answer:?}");
        let trusted = Server {
            allow_superuser: true,
            ..server(&running, user)
        };
        assert_eq!(refused(trusted).await, Answer::default());
        let mut wrong = server(&running, user);
        wrong.login.password = "wrong".to_owned();
        let message = refused(wrong).await.error.unwrap().1;
        assert!(
            !message.contains("127.0.0.1") && !message.contains("localhost"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_drivers_of_npm_work_unchanged() {
    let Some(running) = mariadb(&[]) else { return };
    prepare(&running);
    let door = door(&running, wide());
    crate::drivers::run("mysql", |stream| {
        let door = Arc::clone(&door);
        async move { door.serve(1, stream).await }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_tls_is_proven() {
    let certificate = Certificate::new();
    let options = [
        format!("--ssl-cert={}", certificate.certificate.display()),
        format!("--ssl-key={}", certificate.key.display()),
    ];
    let Some(running) = mariadb(&options) else {
        return;
    };
    prepare(&running);
    running.mariadb("alter user app@'%' require ssl");
    let limits = Limits {
        statement: Duration::from_millis(300),
        ..wide()
    };
    let through = |tls| {
        let server = Server {
            tls,
            ..server(&running, "app")
        };
        open(
            &Arc::new(Door::new(server, limits.clone(), PoolLimits::default())),
            1,
        )
    };
    let (mut client, answer) = Client::login(through(Some(certificate.trusted())), 0).await;
    assert_eq!(answer, Answer::default());
    // A statement is killed over TLS too.
    assert_eq!(
        client
            .query("select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b")
            .await
            .code(),
        3024
    );
    for (tls, expected) in [(Some(untrusted()), 2003), (None, 1045)] {
        assert_eq!(Client::login(through(tls), 0).await.1.code(), expected);
    }
}
