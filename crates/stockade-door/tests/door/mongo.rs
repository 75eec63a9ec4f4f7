//! The door to MongoDB, against a peer of this file that asks for a login by SCRAM-SHA-256 and answers a few commands as
//! MongoDB documents them. No server of MongoDB's is in the packages that the tests may install.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use stockade_door::mongo::{Commands, Door, Server};
use stockade_door::{Limits, Login, PoolLimits, ServerError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use crate::guest::{PATIENCE, soon, until};
use crate::local::Local;

const USER: &str = "app";
const PASSWORD: &str = "a password, with=signs";
const ITERATIONS: u32 = 4096;

// ---- Documents, as little as the tests need ----

#[derive(Debug, Clone, PartialEq)]
enum Bson {
    Double(f64),
    Text(String),
    Document(Fields),
    Array(Vec<Bson>),
    Bytes(Vec<u8>),
    Boolean(bool),
    Int(i32),
    Long(i64),
    Code(String),
    Other(u8, usize),
}

type Fields = Vec<(String, Bson)>;

fn text(text: &str) -> Bson {
    Bson::Text(text.to_owned())
}

fn document<const N: usize>(fields: [(&str, Bson); N]) -> Fields {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn write(fields: &Fields) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    let length = |text: &str| u32::try_from(text.len() + 1).unwrap().to_le_bytes();
    for (name, value) in fields {
        let kind = match value {
            Bson::Double(_) => 1,
            Bson::Text(_) => 2,
            Bson::Document(_) => 3,
            Bson::Array(_) => 4,
            Bson::Bytes(_) => 5,
            Bson::Boolean(_) => 8,
            Bson::Code(_) => 13,
            Bson::Int(_) => 16,
            Bson::Long(_) => 18,
            Bson::Other(kind, _) => *kind,
        };
        bytes.push(kind);
        bytes.extend(name.as_bytes());
        bytes.push(0);
        match value {
            Bson::Double(number) => bytes.extend(number.to_le_bytes()),
            Bson::Text(text) | Bson::Code(text) => {
                bytes.extend(length(text));
                bytes.extend(text.as_bytes());
                bytes.push(0);
            }
            Bson::Document(inner) => bytes.extend(write(inner)),
            Bson::Array(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(index, item)| (index.to_string(), item.clone()));
                bytes.extend(write(&items.collect()));
            }
            Bson::Bytes(inner) => {
                bytes.extend(u32::try_from(inner.len()).unwrap().to_le_bytes());
                bytes.push(0);
                bytes.extend(inner);
            }
            Bson::Boolean(value) => bytes.push(u8::from(*value)),
            Bson::Int(number) => bytes.extend(number.to_le_bytes()),
            Bson::Long(number) => bytes.extend(number.to_le_bytes()),
            Bson::Other(_, length) => bytes.extend(vec![0; *length]),
        }
    }
    bytes.push(0);
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// The document at the beginning, and what follows it.
fn read(bytes: &[u8]) -> (Fields, &[u8]) {
    let (mut rest, after) = bytes.split_at(usize::try_from(number(bytes)).unwrap());
    rest = &rest[4..];
    let mut fields = Fields::new();
    while rest[0] != 0 {
        let kind = rest[0];
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let name = String::from_utf8(rest[1..end].to_vec()).unwrap();
        rest = &rest[end + 1..];
        let size = || usize::try_from(number(rest)).unwrap();
        let (value, length) = match kind {
            1 => (
                Bson::Double(f64::from_le_bytes(rest[..8].try_into().unwrap())),
                8,
            ),
            2 => {
                let text = rest[4..3 + size()].to_vec();
                (Bson::Text(String::from_utf8(text).unwrap()), 4 + size())
            }
            3 => (Bson::Document(read(rest).0), size()),
            4 => {
                let items = read(rest).0.into_iter().map(|(_, item)| item);
                (Bson::Array(items.collect()), size())
            }
            5 => (Bson::Bytes(rest[5..5 + size()].to_vec()), 5 + size()),
            8 => (Bson::Boolean(rest[0] == 1), 1),
            9 => (Bson::Other(9, 8), 8),
            16 => (Bson::Int(number(rest)), 4),
            18 => (
                Bson::Long(i64::from_le_bytes(rest[..8].try_into().unwrap())),
                8,
            ),
            other => unreachable!("type {other}"),
        };
        fields.push((name, value));
        rest = &rest[length..];
    }
    (fields, after)
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Bson> {
    fields
        .iter()
        .find(|(of, _)| of == name)
        .map(|(_, value)| value)
}

fn whole(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int(number) => Some((*number).into()),
        Bson::Long(number) => Some(*number),
        _ => None,
    }
}

fn message(id: i32, to: i32, flags: u32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(21 + body.len()).unwrap();
    let mut bytes = [length, id, to, 2013].map(i32::to_le_bytes).concat();
    bytes.extend(flags.to_le_bytes());
    bytes.push(0);
    bytes.extend(body);
    bytes
}

// ---- The peer ----

/// How the peer misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Honest,
    /// It does not know the password.
    Impostor,
    /// Its user has a role of another database.
    Superuser,
    /// Its replies have a length of their own.
    Forging,
}

#[derive(Default)]
struct Seen {
    commands: Mutex<Vec<Fields>>,
    cursors: Mutex<BTreeMap<i64, i64>>,
    connections: Mutex<usize>,
}

impl Seen {
    fn named(&self, name: &str) -> Vec<Fields> {
        let commands = self.commands.lock();
        let named = commands.iter().filter(|command| command[0].0 == name);
        named.cloned().collect()
    }
}

async fn start(peer: Peer) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let for_all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&for_all);
            tokio::spawn(async move {
                *seen.connections.lock() += 1;
                let _ = serve(peer, stream, &seen).await;
                *seen.connections.lock() -= 1;
            });
        }
    });
    (port, seen)
}

fn sign(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
        .as_ref()
        .to_vec()
}

/// The login of one connection.
#[derive(Default)]
struct Scram {
    first: String,
    server: String,
    done: bool,
}

impl Scram {
    fn start(&mut self, payload: &[u8]) -> String {
        let payload = String::from_utf8(payload.to_vec()).unwrap();
        self.first = payload.strip_prefix("n,,").unwrap().to_owned();
        assert!(self.first.starts_with(&format!("n={USER},r=")));
        let nonce = self.first.split("r=").nth(1).unwrap();
        let salt = BASE64.encode(b"0123456789abcdef");
        self.server = format!("r={nonce}peer,s={salt},i={ITERATIONS}");
        self.server.clone()
    }

    /// The last message, if the guest's proof is right.
    fn finish(&mut self, peer: Peer, payload: &[u8]) -> Option<String> {
        let payload = String::from_utf8(payload.to_vec()).unwrap();
        let (without, proof) = payload.split_once(",p=").unwrap();
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS.try_into().unwrap(),
            b"0123456789abcdef",
            PASSWORD.as_bytes(),
            &mut salted,
        );
        let signed = format!("{},{},{without}", self.first, self.server);
        let key = sign(&salted, b"Client Key");
        let stored = digest(&SHA256, &key);
        let signature = sign(stored.as_ref(), signed.as_bytes());
        let expected: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        self.done = BASE64.decode(proof).unwrap() == expected;
        let server_key = sign(&salted, b"Server Key");
        let mut verifier = sign(&server_key, signed.as_bytes());
        if peer == Peer::Impostor {
            verifier[0] ^= 1;
        }
        self.done.then(|| format!("v={}", BASE64.encode(verifier)))
    }
}

async fn serve(peer: Peer, mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut scram = Scram::default();
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head).await?;
        let mut bytes = vec![0; usize::try_from(number(&head)).unwrap() - 16];
        stream.read_exact(&mut bytes).await?;
        assert_eq!(number(&head[12..]), 2013);
        let (command, _) = read(&bytes[5..]);
        let name = command[0].0.clone();
        seen.commands.lock().push(command.clone());
        if name == "sleep" {
            // Never answers, as a server that hangs.
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
        }
        let body = answer(peer, &command, &mut scram, seen);
        let mut reply = message(1, number(&head[4..]), 0, &write(&body));
        if peer == Peer::Forging && name == "find" {
            reply[..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        }
        stream.write_all(&reply).await?;
    }
}

fn payload(command: &Fields) -> &[u8] {
    match get(command, "payload") {
        Some(Bson::Bytes(bytes)) => bytes,
        other => unreachable!("{other:?}"),
    }
}

fn failed(code: i32, message: &str) -> Fields {
    document([
        ("ok", Bson::Double(0.0)),
        ("errmsg", text(message)),
        ("code", Bson::Int(code)),
        ("codeName", text("Failed")),
    ])
}

fn answer(peer: Peer, command: &Fields, scram: &mut Scram, seen: &Seen) -> Fields {
    let ok = ("ok".to_owned(), Bson::Double(1.0));
    let mut body = match command[0].0.as_str() {
        "hello" => document([
            ("isWritablePrimary", Bson::Boolean(true)),
            ("minWireVersion", Bson::Int(0)),
            ("maxWireVersion", Bson::Int(21)),
            ("me", text("db.internal.example:27017")),
        ]),
        "saslStart" => document([
            ("conversationId", Bson::Int(1)),
            ("done", Bson::Boolean(false)),
            (
                "payload",
                Bson::Bytes(scram.start(payload(command)).into_bytes()),
            ),
        ]),
        "saslContinue" => match scram.finish(peer, payload(command)) {
            Some(last) => document([
                ("conversationId", Bson::Int(1)),
                ("done", Bson::Boolean(true)),
                ("payload", Bson::Bytes(last.into_bytes())),
            ]),
            None => return failed(18, "Authentication failed for app at db.internal.example"),
        },
        _ if !scram.done => return failed(13, "command requires authentication"),
        "connectionStatus" => {
            let of = if peer == Peer::Superuser {
                "admin"
            } else {
                "shop"
            };
            let role = document([("role", text("readWrite")), ("db", text(of))]);
            let roles = Bson::Array(vec![Bson::Document(role)]);
            document([(
                "authInfo",
                Bson::Document(document([("authenticatedUserRoles", roles)])),
            )])
        }
        "find" => {
            let cursor = i64::try_from(seen.cursors.lock().len()).unwrap() + 7_000_000_000;
            seen.cursors.lock().insert(cursor, 2);
            let one = Bson::Document(document([("n", Bson::Int(1))]));
            let cursor = document([
                ("firstBatch", Bson::Array(vec![one])),
                ("id", Bson::Long(cursor)),
                ("ns", text("shop.things")),
            ]);
            document([
                ("cursor", Bson::Document(cursor)),
                ("operationTime", Bson::Long(1)),
                ("serverInfo", text("db.internal.example")),
            ])
        }
        "getMore" => {
            let id = whole(Some(&command[0].1)).unwrap();
            let mut cursors = seen.cursors.lock();
            let left = cursors.get_mut(&id).unwrap();
            *left -= 1;
            let next = if *left == 0 { 0 } else { id };
            if next == 0 {
                cursors.remove(&id);
            }
            let cursor = document([
                ("nextBatch", Bson::Array(Vec::new())),
                ("id", Bson::Long(next)),
                ("ns", text("shop.things")),
            ]);
            document([("cursor", Bson::Document(cursor))])
        }
        "killCursors" => {
            if let Some(Bson::Array(ids)) = get(command, "cursors") {
                for id in ids {
                    seen.cursors.lock().remove(&whole(Some(id)).unwrap());
                }
            }
            Fields::new()
        }
        "count" => document([("n", Bson::Int(3)), ("filler", text(&"x".repeat(100_000)))]),
        _ => document([("n", Bson::Int(1))]),
    };
    body.push(ok);
    body
}

// ---- The guest ----

fn server(port: u16, password: &str) -> Server {
    Server {
        dial: Arc::new(Local(port)),
        tls: None,
        login: Login {
            user: USER.to_owned(),
            password: password.to_owned(),
            database: "shop".to_owned(),
        },
        auth_source: "admin".to_owned(),
        allow_superuser: false,
    }
}

fn door_with(server: Server, limits: Limits, cursors: usize) -> Arc<Door> {
    let pool = PoolLimits {
        connections: 2,
        ..PoolLimits::default()
    };
    let allow = ["sleep".to_owned()];
    Arc::new(Door::new(
        server,
        Commands::new(&[], &allow),
        limits,
        pool,
        cursors,
    ))
}

fn door(port: u16) -> Arc<Door> {
    door_with(server(port, PASSWORD), Limits::default(), 10)
}

struct Guest {
    stream: DuplexStream,
    next: i32,
}

impl Guest {
    fn new(door: &Arc<Door>, owner: u64) -> Self {
        let (stream, theirs) = tokio::io::duplex(64 << 10);
        let door = Arc::clone(door);
        tokio::spawn(async move { door.serve(owner, theirs).await });
        Self { stream, next: 100 }
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A door that has ended does not read.
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// The next answer; `None` at the end.
    async fn receive(&mut self) -> Option<(i32, Fields)> {
        let mut head = [0; 16];
        soon(self.stream.read_exact(&mut head)).await.ok()?;
        let mut bytes = vec![0; usize::try_from(number(&head)).unwrap() - 16];
        soon(self.stream.read_exact(&mut bytes)).await.ok()?;
        let skipped = if number(&head[12..]) == 2013 { 5 } else { 20 };
        Some((number(&head[8..]), read(&bytes[skipped..]).0))
    }

    async fn ask(&mut self, mut command: Fields) -> Fields {
        if get(&command, "$db").is_none() {
            command.push(("$db".to_owned(), text("shop")));
        }
        self.next += 1;
        self.send(&message(self.next, 0, 0, &write(&command))).await;
        let (to, answer) = self.receive().await.unwrap();
        assert_eq!(to, self.next);
        answer
    }

    async fn find(&mut self) -> i64 {
        let answer = self.ask(document([("find", text("things"))])).await;
        let Some(Bson::Document(cursor)) = get(&answer, "cursor") else {
            unreachable!("{answer:?}")
        };
        whole(get(cursor, "id")).unwrap()
    }
}

fn is_ok(answer: &Fields) -> bool {
    get(answer, "ok") == Some(&Bson::Double(1.0))
}

fn code(answer: &Fields) -> i64 {
    assert!(!is_ok(answer), "{answer:?}");
    whole(get(answer, "code")).unwrap()
}

#[tokio::test]
async fn guest_without_a_password_reaches_its_database() {
    let (port, seen) = start(Peer::Honest).await;
    let door = door(port);
    let mut guest = Guest::new(&door, 1);
    // As a driver begins: OP_QUERY, and then OP_MSG.
    let hello = write(&document([
        ("ismaster", Bson::Int(1)),
        ("helloOk", Bson::Boolean(true)),
    ]));
    let mut query = [0, 9, 0, 2004].map(i32::to_le_bytes).concat();
    query.extend([0; 4]);
    query.extend(b"admin.$cmd\0");
    query.extend([0, -1].map(i32::to_le_bytes).concat());
    query.extend(&hello);
    let length = u32::try_from(query.len()).unwrap();
    query[..4].copy_from_slice(&length.to_le_bytes());
    guest.send(&query).await;
    let (to, answer) = guest.receive().await.unwrap();
    assert!(to == 9 && is_ok(&answer), "{answer:?}");
    // No sessions, no other servers, no word of the real one.
    for name in [
        "logicalSessionTimeoutMinutes",
        "hosts",
        "setName",
        "me",
        "compression",
    ] {
        assert_eq!(get(&answer, name), None, "{name}");
    }
    let answer = guest
        .ask(document([
            ("find", text("things")),
            ("batchSize", Bson::Int(1 << 20)),
        ]))
        .await;
    assert!(is_ok(&answer), "{answer:?}");
    assert!(get(&answer, "serverInfo").is_none() && get(&answer, "operationTime").is_none());
    let passed = &seen.named("find")[0];
    assert_eq!(whole(get(passed, "maxTimeMS")), Some(5000));
    assert_eq!(whole(get(passed, "batchSize")), Some(10_000));
    assert_eq!(get(passed, "$db"), Some(&text("shop")));
    // The login is not the guest's.
    let answer = guest.ask(document([("saslStart", Bson::Int(1))])).await;
    assert_eq!(code(&answer), 13);
    assert_eq!(seen.named("saslStart").len(), *seen.connections.lock());
    door.check().await.unwrap();
}

#[tokio::test]
async fn logins_that_fail_are_reported_to_the_operator_and_not_to_the_guest() {
    for (peer, password, expected) in [
        (Peer::Honest, "wrong", "Authentication failed"),
        (Peer::Impostor, PASSWORD, "did not prove"),
        (Peer::Superuser, PASSWORD, "readWrite of admin"),
        (Peer::Honest, "gr\u{fc}n", "not printable ASCII"),
    ] {
        let (port, _) = start(peer).await;
        let door = door_with(server(port, password), Limits::default(), 10);
        let error = door.check().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let answer = Guest::new(&door, 1)
            .ask(document([("ping", Bson::Int(1))]))
            .await;
        assert_eq!(code(&answer), 6);
        let shown = format!("{answer:?}");
        assert!(
            !shown.contains("internal") && !shown.contains(expected),
            "{shown}"
        );
    }
    let (port, _) = start(Peer::Superuser).await;
    let mut server = server(port, PASSWORD);
    server.allow_superuser = true;
    door_with(server.clone(), Limits::default(), 10)
        .check()
        .await
        .unwrap();
    // A server without logins allows everything to everyone.
    server.login.user.clear();
    server.allow_superuser = false;
    let error = door_with(server, Limits::default(), 10)
        .check()
        .await
        .unwrap_err();
    assert!(matches!(error, ServerError::Superuser(_)), "{error}");
}

#[tokio::test]
async fn commands_that_are_refused_never_reach_the_server() {
    let (port, seen) = start(Peer::Honest).await;
    let door = door(port);
    let mut guest = Guest::new(&door, 1);
    let inner = |name: &str| Bson::Document(document([(name, text("1"))]));
    for command in [
        document([("mapReduce", text("things"))]),
        document([("eval", text("1"))]),
        document([("shutdown", Bson::Int(1))]),
        document([("createUser", text("x"))]),
        document([("find", text("things")), ("$db", text("admin"))]),
        document([("find", text("things")), ("filter", inner("$where"))]),
        document([
            ("find", text("things")),
            ("filter", Bson::Array(vec![inner("$function")])),
        ]),
        document([
            ("insert", text("things")),
            ("documents", Bson::Array(vec![Bson::Code("1".into())])),
        ]),
        document([("find", text("things")), ("lsid", inner("id"))]),
    ] {
        assert_eq!(code(&guest.ask(command).await), 13);
    }
    assert!(is_ok(
        &guest.ask(document([("insert", text("things"))])).await
    ));
    let commands = seen.commands.lock();
    let passed: Vec<&str> = commands.iter().map(|command| &*command[0].0).collect();
    assert_eq!(
        passed,
        [
            "hello",
            "saslStart",
            "saslContinue",
            "connectionStatus",
            "insert"
        ]
    );
}

#[tokio::test]
async fn cursors_are_their_owners_alone_and_end_with_them() {
    let (port, seen) = start(Peer::Honest).await;
    let door = door_with(server(port, PASSWORD), Limits::default(), 2);
    let (mut guest, mut same, mut other) = (
        Guest::new(&door, 1),
        Guest::new(&door, 1),
        Guest::new(&door, 2),
    );
    let more = |cursor, collection| {
        document([
            ("getMore", Bson::Long(cursor)),
            ("collection", text(collection)),
        ])
    };
    let kill = |cursor| {
        document([
            ("killCursors", text("things")),
            ("cursors", Bson::Array(vec![Bson::Long(cursor)])),
        ])
    };
    let cursor = guest.find().await;
    assert_eq!(code(&other.ask(more(cursor, "things")).await), 43);
    assert_eq!(code(&other.ask(kill(cursor)).await), 43);
    assert_eq!(code(&guest.ask(more(cursor, "others")).await), 43);
    // Another connection of the same isolate goes on with it.
    assert!(is_ok(&same.ask(more(cursor, "things")).await));
    // There are as many as the grant allows.
    let second = guest.find().await;
    let refused = guest.ask(document([("find", text("things"))])).await;
    assert_eq!(code(&refused), 13);
    assert!(is_ok(&guest.ask(kill(second)).await));
    guest.find().await;
    let of_other = other.find().await;
    assert_eq!(seen.cursors.lock().len(), 3);
    // The last connection ends, and the cursors with it.
    drop(guest);
    assert!(is_ok(&same.ask(more(cursor, "things")).await));
    drop(same);
    until(|| seen.cursors.lock().len() == 1).await;
    assert!(seen.cursors.lock().contains_key(&of_other));
    drop(other);
    until(|| seen.cursors.lock().is_empty()).await;
}

#[tokio::test]
async fn commands_end_at_their_time_and_with_their_guest() {
    let (port, seen) = start(Peer::Honest).await;
    let limits = Limits {
        statement: Duration::from_millis(500),
        ..Limits::default()
    };
    let door = door_with(server(port, PASSWORD), limits, 10);
    let mut guest = Guest::new(&door, 1);
    let answer = guest.ask(document([("sleep", Bson::Int(1))])).await;
    assert_eq!(code(&answer), 50);
    assert!(is_ok(&guest.ask(document([("ping", Bson::Int(1))])).await));
    // One whose guest goes away, and one whose guest ends.
    let door = door_with(
        server(port, PASSWORD),
        Limits {
            statement: PATIENCE,
            ..Limits::default()
        },
        10,
    );
    for ends in [false, true] {
        let mut guest = Guest::new(&door, 1);
        let before = seen.named("sleep").len();
        let sleep = document([("sleep", Bson::Int(1)), ("$db", text("shop"))]);
        guest.send(&message(1, 0, 0, &write(&sleep))).await;
        until(|| seen.named("sleep").len() > before).await;
        assert_eq!(door.usage().in_use, 1);
        if ends {
            door.ended(1);
        } else {
            drop(guest);
        }
        until(|| door.usage().in_use == 0).await;
    }
}

#[tokio::test]
async fn sizes_are_bounded_in_both_directions() {
    let (port, _) = start(Peer::Honest).await;
    let limits = Limits {
        max_request: 10_000,
        max_result: 50_000,
        ..Limits::default()
    };
    let door = door_with(server(port, PASSWORD), limits, 10);
    let mut guest = Guest::new(&door, 1);
    let insert =
        |length: usize| document([("insert", text("things")), ("d", text(&"x".repeat(length)))]);
    assert!(is_ok(&guest.ask(insert(5000)).await));
    // The reply of 100 kB never comes, and the connection that has it is not used again.
    let answer = guest.ask(document([("count", text("things"))])).await;
    assert_eq!(code(&answer), 6);
    assert!(is_ok(&guest.ask(insert(5000)).await));
    guest.send(&message(1, 0, 0, &write(&insert(20_000)))).await;
    assert_eq!(guest.receive().await, None);
}

#[tokio::test]
async fn forged_messages_end_the_session_that_they_are_of() {
    let (port, seen) = start(Peer::Honest).await;
    let door = door(port);
    let ping = write(&document([("ping", Bson::Int(1)), ("$db", text("shop"))]));
    let good = message(1, 0, 0, &ping);
    let changed = |at: usize, bytes: &[u8]| {
        let mut message = good.clone();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        message
    };
    let mut honest = Guest::new(&door, 2);
    for forged in [
        changed(0, &[3, 0, 0, 0]),
        changed(0, &[0xff; 4]),
        changed(12, &[0xdc, 7]),
        changed(12, &[0xd4, 7]),
        changed(16, &[1]),
        changed(20, &[9]),
        changed(21, &[0xff; 4]),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ] {
        let mut guest = Guest::new(&door, 1);
        guest.send(&forged).await;
        if let Some((_, answer)) = guest.receive().await {
            code(&answer);
            assert_eq!(guest.receive().await, None, "{forged:?}");
        }
        assert!(is_ok(&honest.ask(document([("ping", Bson::Int(1))])).await));
    }
    assert_eq!(seen.named("ping").len(), 8);
    // A write that wants no answer gets none, and the next command gets its own.
    let mut guest = Guest::new(&door, 1);
    let insert = write(&document([
        ("insert", text("things")),
        ("$db", text("shop")),
    ]));
    guest.send(&message(5, 0, 2, &insert)).await;
    assert!(is_ok(&guest.ask(document([("ping", Bson::Int(1))])).await));
    assert_eq!(seen.named("insert").len(), 1);
    // A server that forges a reply loses its connection.
    let (port, _) = start(Peer::Forging).await;
    let door = door_with(server(port, PASSWORD), Limits::default(), 10);
    let mut guest = Guest::new(&door, 1);
    assert_eq!(
        code(&guest.ask(document([("find", text("things"))])).await),
        6
    );
    assert!(is_ok(&guest.ask(document([("ping", Bson::Int(1))])).await));
}
