//! The door to Redis.

use std::sync::Arc;
use std::time::Duration;

use stockade_door::redis::{Commands, Door};
use stockade_door::{Limits, PoolLimits, PoolUse, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::certificate::{Certificate, untrusted};
use crate::guest::{soon, until};
use crate::local::{Local, pool, wide};
use crate::servers::{Running, free_port, redis};

fn server(running: &Running, user: &str) -> Server {
    crate::local::server(running, user, "0")
}

fn door(running: &Running, limits: Limits) -> Arc<Door> {
    let pool = PoolLimits {
        connections: 20,
        per_owner: 20,
        ..pool()
    };
    Arc::new(Door::new(
        server(running, "app"),
        Commands::new(&[], &[]),
        limits,
        pool,
    ))
}

/// A client that speaks the protocol by hand.
struct Client(DuplexStream);

fn open(door: &Arc<Door>, owner: u64) -> Client {
    let (guest, stream) = duplex(16 << 10);
    let door = Arc::clone(door);
    tokio::spawn(async move { door.serve(owner, stream).await });
    Client(guest)
}

fn command(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        let _ = soon(self.0.write_all(bytes)).await;
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(soon(self.0.read_u8()).await.ok()?);
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8(line).unwrap())
    }

    /// The next reply, its elements with a space between them; `None` at the end.
    async fn reply(&mut self) -> Option<String> {
        let line = self.line().await?;
        let (kind, text) = line.split_at(1);
        match kind {
            "$" if text == "-1" => Some("null".to_owned()),
            "$" => {
                let mut text = vec![0; text.parse::<usize>().unwrap() + 2];
                soon(self.0.read_exact(&mut text)).await.ok()?;
                text.truncate(text.len() - 2);
                Some(String::from_utf8(text).unwrap())
            }
            "*" | ">" | "%" => {
                let count: i64 = text.parse().unwrap();
                let mut elements = Vec::new();
                for _ in 0..count * if kind == "%" { 2 } else { 1 } {
                    elements.push(Box::pin(self.reply()).await?);
                }
                Some(format!("{kind}{}", elements.join(" ")))
            }
            _ => Some(line),
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&command(line)).await;
        self.reply().await.unwrap_or_else(|| "end".to_owned())
    }
}

fn clients(running: &Running) -> usize {
    running
        .redis(&["client", "list"])
        .matches("user=app")
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_sessions_are_as_those_of_a_server() {
    let Some(running) = redis(&[]) else { return };
    let door = door(&running, wide());
    let mut client = open(&door, 1);
    // 1. A login with any password, by each way; commands, with the keys of the user alone.
    assert_eq!(client.ask("AUTH wrong").await, "+OK");
    assert_eq!(client.ask("AUTH guest wrong").await, "+OK");
    assert!(
        client
            .ask("HELLO 2 AUTH guest wrong SETNAME me")
            .await
            .contains("proto :2")
    );
    assert_eq!(client.ask("CLIENT GETNAME").await, "me");
    assert_eq!(client.ask("SELECT 0").await, "+OK");
    assert_eq!(client.ask("SET shop:a 1").await, "+OK");
    assert_eq!(client.ask("GET shop:a").await, "1");
    assert!(client.ask("GET other").await.starts_with("-NOPERM"));
    assert!(client.ask("INFO").await.contains("loading:0"));
    assert!(!client.ask("INFO server").await.contains("redis_version"));

    // 2. Refused commands, also in a transaction, which they abort.
    for line in [
        "KEYS *",
        "keys *",
        "EVAL return_1 0",
        "CONFIG GET *",
        "CLIENT LIST",
        "CLIENT KILL 1",
        "CLIENT REPLY OFF",
        "SELECT 1",
        "MONITOR",
        "RESET",
    ] {
        let reply = client.ask(line).await;
        assert!(
            reply.starts_with("-NOPERM this grant does not allow"),
            "{line}: {reply}"
        );
    }
    let lines = [
        "MULTI",
        "SET shop:a 2",
        "KEYS *",
        "AUTH x",
        "SUBSCRIBE shop:c",
        "EXEC",
        "GET shop:a",
    ];
    client.send(&lines.map(command).concat()).await;
    let mut replies = Vec::new();
    for _ in lines {
        replies.push(client.reply().await.unwrap());
    }
    assert_eq!(replies[..2], ["+OK", "+QUEUED"]);
    assert!(
        replies[2..5]
            .iter()
            .all(|reply| reply.starts_with("-NOPERM")),
        "{replies:?}"
    );
    assert!(
        replies[5].starts_with("-EXECABORT") && replies[6] == "1",
        "{replies:?}"
    );
    assert_eq!(client.ask("MULTI").await, "+OK");
    assert_eq!(client.ask("INCR shop:a").await, "+QUEUED");
    assert_eq!(client.ask("EXEC").await, "*:2");

    // 3. Subscriptions, with both versions of the protocol. What is published comes between replies.
    for version in ["2", "3"] {
        let mark = if version == "3" { ">" } else { "*" };
        let mut subscriber = open(&door, 2);
        subscriber.ask(&format!("HELLO {version}")).await;
        assert_eq!(
            subscriber.ask("SUBSCRIBE shop:c shop:d").await,
            format!("{mark}subscribe shop:c :1")
        );
        assert_eq!(
            subscriber.reply().await.unwrap(),
            format!("{mark}subscribe shop:d :2")
        );
        assert_eq!(
            subscriber.ask("PSUBSCRIBE shop:p*").await,
            format!("{mark}psubscribe shop:p* :3")
        );
        assert_eq!(client.ask("PUBLISH shop:c hi").await, ":1");
        assert_eq!(
            subscriber.reply().await.unwrap(),
            format!("{mark}message shop:c hi")
        );
        assert_eq!(client.ask("PUBLISH shop:pq hi").await, ":1");
        assert_eq!(
            subscriber.reply().await.unwrap(),
            format!("{mark}pmessage shop:p* shop:pq hi")
        );
        assert!(
            subscriber
                .ask("SUBSCRIBE other")
                .await
                .starts_with("-NOPERM")
        );
        subscriber
            .send(
                &[
                    command("UNSUBSCRIBE"),
                    command("PUNSUBSCRIBE"),
                    command("UNSUBSCRIBE"),
                    command("PING"),
                ]
                .concat(),
            )
            .await;
        for _ in 0..4 {
            assert!(subscriber.reply().await.unwrap().contains("unsubscribe"));
        }
        assert_eq!(subscriber.reply().await.unwrap(), "+PONG");
        // A session that has ended its subscriptions is clean: its connection is kept.
        assert_eq!(subscriber.ask("QUIT").await, "+OK");
        assert_eq!(subscriber.reply().await, None);
        until(|| door.usage() == PoolUse { in_use: 1, idle: 1 }).await;
    }

    // 4. A connection is used again, and nothing of its session is left.
    let mut next = open(&door, 3);
    assert_eq!(next.ask("CLIENT GETNAME").await, "null");
    let first = next.ask("CLIENT ID").await;
    next.ask("CLIENT SETNAME left").await;
    next.ask("WATCH shop:a").await;
    next.ask("MULTI").await;
    drop(next);
    until(|| door.usage() == PoolUse { in_use: 1, idle: 1 }).await;
    let mut next = open(&door, 3);
    assert_eq!(next.ask("CLIENT ID").await, first);
    assert_eq!(next.ask("CLIENT GETNAME").await, "null");
    assert_eq!(next.ask("GET shop:a").await, "2");

    // 5. One that waits is closed, however its guest goes.
    next.send(&command("BLPOP shop:none 0")).await;
    until(|| running.redis(&["client", "list"]).contains("cmd=blpop")).await;
    drop(next);
    until(|| clients(&running) == 1).await;
    let mut next = open(&door, 4);
    next.send(&command("BLPOP shop:none 0")).await;
    until(|| running.redis(&["client", "list"]).contains("cmd=blpop")).await;
    door.ended(4);
    until(|| clients(&running) == 1).await;

    // 6. More commands than replies may be to come, at once.
    let many: Vec<u8> = (0..5000)
        .flat_map(|number| command(&format!("ECHO {number}")))
        .collect();
    let (mut reader, mut writer) = tokio::io::split(open(&door, 5).0);
    let writing = tokio::spawn(async move {
        writer.write_all(&many).await.unwrap();
        writer
    });
    let mut all = String::new();
    let mut chunk = [0; 4096];
    while !all.ends_with("\r\n4999\r\n") {
        let count = soon(reader.read(&mut chunk)).await.unwrap();
        assert!(count > 0, "it ended: {all}");
        all += str::from_utf8(&chunk[..count]).unwrap();
    }
    drop(soon(writing).await.unwrap());
    let expected: String = (0..5000)
        .map(|number: u32| format!("${}\r\n{number}\r\n", number.to_string().len()))
        .collect();
    assert_eq!(all, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_limits_are_enforced_by_the_door() {
    let Some(running) = redis(&[]) else { return };
    let short = Duration::from_secs(1);
    // 1. Sizes of commands and replies.
    let limited = door(
        &running,
        Limits {
            max_request: 10_000,
            max_result: 10_000,
            ..wide()
        },
    );
    let mut control = open(&limited, 1);
    assert_eq!(
        control
            .ask(&format!("SET shop:a {}", "x".repeat(9000)))
            .await,
        "+OK"
    );
    assert_eq!(control.ask("GET shop:a").await.len(), 9000);
    let mut client = open(&limited, 1);
    client
        .send(b"*3\r\n$3\r\nSET\r\n$6\r\nshop:a\r\n$1000000000\r\n")
        .await;
    assert!(client.reply().await.unwrap().contains("10000 bytes"));
    assert_eq!(client.reply().await, None);
    control
        .ask(&format!("APPEND shop:a {}", "x".repeat(9000)))
        .await;
    let mut client = open(&limited, 1);
    client.send(&command("GET shop:a")).await;
    assert!(client.reply().await.unwrap().contains("10000 bytes"));
    assert_eq!(client.reply().await, None);

    // 2. A guest that does not read: what the server holds for it is bounded.
    let door_ = door(&running, wide());
    let mut client = open(&door_, 2);
    assert_eq!(
        client
            .ask(&format!("SET shop:b {}", "x".repeat(100_000)))
            .await,
        "+OK"
    );
    let flood = command("GET shop:b").repeat(100_000);
    let _ = tokio::time::timeout(short, client.0.write_all(&flood)).await;
    let held = |line: &str| {
        let value = line
            .split("omem=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        value
            .and_then(|value| value.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let list = running.redis(&["client", "list"]);
    let most = list
        .lines()
        .filter(|line| line.contains("user=app"))
        .map(held)
        .max()
        .unwrap();
    assert!(most < 256 * 110_000, "the server holds {most} bytes");
    drop(client);
    until(|| clients(&running) == 1).await;

    // 3. Commands that take long end the session; those that wait do not; idle ones do.
    running.redis(&["client", "pause", "100000", "write"]);
    let slow = door(
        &running,
        Limits {
            statement: short,
            ..wide()
        },
    );
    let mut client = open(&slow, 3);
    assert_eq!(
        client.ask("SET shop:a 1").await,
        "-ERR a command took longer than the 1s that this grant allows"
    );
    assert_eq!(client.reply().await, None);
    running.redis(&["client", "unpause"]);
    let mut client = open(&slow, 3);
    assert_eq!(client.ask("BLPOP shop:none 2").await, "*");
    let idle = door(
        &running,
        Limits {
            idle: short,
            ..wide()
        },
    );
    let mut subscriber = open(&idle, 4);
    assert_eq!(
        subscriber.ask("SUBSCRIBE shop:c").await,
        "*subscribe shop:c :1"
    );
    let mut client = open(&idle, 4);
    assert!(
        client
            .reply()
            .await
            .unwrap()
            .contains("idle longer than the 1s")
    );
    assert_eq!(control.ask("PUBLISH shop:c hi").await, ":1");
    assert_eq!(subscriber.reply().await.unwrap(), "*message shop:c hi");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_guests_that_forge_requests_end_alone() {
    let Some(running) = redis(&[]) else { return };
    let door = door(&running, wide());
    let mut control = open(&door, 1);
    for bytes in [
        &b"PING\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*2\r\n$4\r\nECHO\r\n:1\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*2\r\n$5\r\nHELLO\r\n$99999\r\n",
    ] {
        let mut client = open(&door, 2);
        client.send(bytes).await;
        let reply = client.reply().await;
        assert!(
            reply
                .as_ref()
                .is_some_and(|reply| reply.starts_with("-ERR")),
            "{}: {reply:?}",
            bytes.escape_ascii()
        );
        assert_eq!(client.reply().await, None);
    }
    assert_eq!(control.ask("ECHO still").await, "still");

    // Users that may do too much are refused, unless the grant says otherwise.
    let connect = |server: Server| {
        let door = Door::new(
            server,
            Commands::new(&[], &["EVAL".to_owned()]),
            wide(),
            PoolLimits::default(),
        );
        open(&Arc::new(door), 1)
    };
    let refused = connect(server(&running, "admin")).reply().await.unwrap();
    assert!(
        refused.starts_with("-ERR the database user of this grant has more rights"),
        "{refused}"
    );
    let trusted = Server {
        allow_superuser: true,
        ..server(&running, "admin")
    };
    let mut client = connect(trusted);
    client
        .send(b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 7\r\n$1\r\n0\r\n")
        .await;
    assert_eq!(client.reply().await.unwrap(), ":7");
    let mut wrong = server(&running, "app");
    wrong.login.password = "wrong".to_owned();
    let refused = connect(wrong).reply().await.unwrap();
    assert_eq!(
        refused,
        "-ERR the database refused the login of this grant; the operator's log says why"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_drivers_of_npm_work_unchanged() {
    let Some(running) = redis(&[]) else { return };
    let door = door(&running, wide());
    crate::drivers::run("redis", |stream| {
        let door = Arc::clone(&door);
        async move { door.serve(1, stream).await }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_tls_is_proven() {
    let certificate = Certificate::new();
    let port = free_port();
    let options = [
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        certificate.certificate.display().to_string(),
        "--tls-key-file".to_owned(),
        certificate.key.display().to_string(),
        "--tls-auth-clients".to_owned(),
        "no".to_owned(),
    ];
    let Some(running) = redis(&options) else {
        return;
    };
    for (tls, expected) in [
        (certificate.trusted(), ":1"),
        (
            untrusted(),
            "-ERR the database's TLS failed; the operator's log says why",
        ),
    ] {
        let server = Server {
            dial: Arc::new(Local(port)),
            tls: Some(tls),
            ..server(&running, "app")
        };
        let door = Door::new(
            server,
            Commands::new(&[], &[]),
            wide(),
            PoolLimits::default(),
        );
        assert_eq!(
            open(&Arc::new(door), 1).ask("INCR shop:tls").await,
            expected
        );
    }
}
