//! Connections of guests: bytes in both directions, their bounds, and guests that break the protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::Value;
use stockade_capability::{
    CallContext, CallPayload, Capability, Opened, Owner, Pipe, Reply, StartTls,
};
use stockade_http::{Body, UpstreamSocket};
use stockade_instance::{
    ConnectRequest, FetchError, GrantedGuest, GrantedServices, InstanceLimits, SecureTransport,
    Services, SocketProtocol, Takes, Transport,
};
use stockade_limits::IsolateOptions;
use stockade_protocol::{FromIsolate, GuestError, Payload};
use stockade_supervisor::EventQueue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use crate::guest::{self, Body as Content, Guest, Received, body};
use crate::site::{Site, get, piecewise};

/// As the runtime has it.
const WINDOW: usize = 512 << 10;
const OVERHEAD: usize = 256;

/// Opens connections whose other ends go to the test.
struct Peers(mpsc::UnboundedSender<DuplexStream>);

impl Services for Peers {
    fn fetch(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        unreachable!()
    }

    fn websocket(
        &self,
        _: String,
        _: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        unreachable!()
    }

    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let _ = self.0.send(theirs);
        // TLS of the test's own: a word, and the same stream again.
        let start: StartTls = Box::new(|mut stream, name| {
            Box::pin(async move {
                let word = format!("tls {}\n", name.unwrap_or_default());
                let said = stream.write_all(word.as_bytes()).await;
                said.map_err(|error| GuestError::new(error.to_string()))?;
                Ok(Pipe {
                    stream,
                    opened: Opened::default(),
                    start_tls: None,
                    over: None,
                })
            })
        });
        let pipe = Pipe {
            opened: Opened {
                remote_address: Some(format!("{}:{}", request.host, request.port)),
                local_address: None,
            },
            start_tls: Some(start),
            ..Pipe::new(ours)
        };
        Box::pin(std::future::ready(Ok(pipe)))
    }

    fn capability(&self, _: &str) -> Option<Arc<dyn Capability>> {
        None
    }

    fn ended(&self, _: &Owner) {}
}

const CONNECT: &str = r#"{"host":"db.example","port":5432,"secure":"starttls"}"#;

/// A site whose guests do `script`, and the other ends of their connections.
fn site(
    script: impl Fn(&Guest, Received) + Send + Sync + Clone + 'static,
) -> (Site, mpsc::UnboundedReceiver<DuplexStream>) {
    site_with(script, 1000)
}

fn site_with(
    script: impl Fn(&Guest, Received) + Send + Sync + Clone + 'static,
    pipes: usize,
) -> (Site, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = mpsc::unbounded_channel();
    let site = Site::serving(
        guest::scripted(script),
        Arc::new(Peers(sender)),
        |options| {
            options.limits.pipes = pipes;
        },
    );
    (site, peers)
}

/// The guest asks for a connection with each request, which it answers at once.
fn ask(guest: &Guest, message: &Received) -> bool {
    let Received::Request(request) = message else {
        return false;
    };
    guest.ask(request.id, "socket.connect", CONNECT);
    guest.respond(request.id, 200, "honest");
    true
}

fn data(guest: &Guest, id: u64, bytes: Vec<u8>) {
    guest.control_marked(
        "pipe.data",
        format!("{{\"id\":{id},\"chunk\":\"\\u0000b0\"}}"),
        vec![bytes],
    );
}

fn of_pipe(guest: &Guest, name: &str, id: u64) {
    guest.control(name, format!("{{\"id\":{id}}}"));
}

/// The bytes of `pipe.data`.
fn chunk(message: &Received) -> Option<(u64, Vec<u8>)> {
    let Received::Control(name, data) = message else {
        return None;
    };
    let value: Value = serde_json::from_str(&data.json).ok()?;
    match body(&value["chunk"], data) {
        Content::Bytes(bytes) if name == "pipe.data" => Some((value["id"].as_u64()?, bytes)),
        _ => None,
    }
}

#[tokio::test]
async fn pipe_carries_bytes_both_ways_and_each_half_ends() {
    let (received, mut events) = mpsc::unbounded_channel();
    let (site, mut peers) = site(move |guest, message| {
        if ask(guest, &message) {
            return;
        }
        if let Some((id, bytes)) = chunk(&message) {
            let n = bytes.len() + OVERHEAD;
            guest.control("pipe.credit", format!("{{\"id\":{id},\"n\":{n}}}"));
            received.send(("data".to_owned(), bytes.len())).unwrap();
        } else if let Received::Answer(_, result) = message {
            let json = result.unwrap().json;
            assert_eq!(json, r#"{"id":0,"remoteAddress":"db.example:5432"}"#);
            data(guest, 0, b"hello ".to_vec());
            data(guest, 0, b"peer".to_vec());
            of_pipe(guest, "pipe.end", 0);
        } else if let Received::Control(name, _) = message {
            received.send((name, 0)).unwrap();
        }
    });
    site.read(get("/")).await;
    let mut peer = peers.recv().await.unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello peer");
    // Several times what may be on its way.
    let much = vec![7; 5 * WINDOW];
    peer.write_all(&much).await.unwrap();
    peer.shutdown().await.unwrap();
    let mut total = 0;
    loop {
        match events.recv().await.unwrap() {
            (name, bytes) if name == "data" => total += bytes,
            (name, _) => {
                assert_eq!(name, "pipe.end");
                break;
            }
        }
    }
    assert_eq!(total, much.len());
    assert_eq!(events.recv().await.unwrap().0, "pipe.closed");
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn peer_of_a_guest_that_takes_nothing_is_held_back() {
    let (received, mut events) = mpsc::unbounded_channel();
    let (site, mut peers) = site(move |guest, message| {
        if !ask(guest, &message)
            && let Some((id, bytes)) = chunk(&message)
        {
            received.send((guest.number, id, bytes.len())).unwrap();
            // Nothing but the close ends the wait of the peer.
            if bytes.contains(&9) {
                of_pipe(guest, "pipe.close", id);
            }
        }
    });
    site.read(get("/")).await;
    let mut peer = peers.recv().await.unwrap();
    // So much fits, whatever the pieces are; the last of it makes the guest close.
    let mut first = vec![7; WINDOW / 4];
    first.push(9);
    peer.write_all(&first).await.unwrap();
    let more = peer.write_all(&vec![7; 4 * WINDOW]).await;
    assert!(more.is_err(), "the connection was closed");
    drop(peer);
    site.instance.drain(std::time::Duration::ZERO).await;
    let mut total = 0;
    while let Ok((_, _, bytes)) = events.try_recv() {
        total += bytes + OVERHEAD;
    }
    assert!(total <= WINDOW, "{total}");
}

#[tokio::test]
async fn tls_starts_between_two_bytes() {
    let (received, mut events) = mpsc::unbounded_channel();
    let (site, mut peers) = site(move |guest, message| {
        if ask(guest, &message) {
        } else if let Received::Answer(..) = message {
            data(guest, 0, b"plain ".to_vec());
            guest.control("pipe.tls", r#"{"id":0,"name":"db.example"}"#);
        } else if let Some((_, bytes)) = chunk(&message) {
            received.send(String::from_utf8(bytes).unwrap()).unwrap();
        } else if let Received::Control(name, _) = message {
            if name == "pipe.secured" {
                data(guest, 0, b"secret".to_vec());
                of_pipe(guest, "pipe.end", 0);
            }
            received.send(name).unwrap();
        }
    });
    site.read(get("/")).await;
    let mut peer = peers.recv().await.unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "plain tls db.example\nsecret");
    assert_eq!(events.recv().await.unwrap(), "pipe.secured");
    peer.write_all(b"answer").await.unwrap();
    assert_eq!(events.recv().await.unwrap(), "answer");
}

#[tokio::test]
async fn tls_that_cannot_start_fails_the_pipe_with_its_reason() {
    let (received, mut events) = mpsc::unbounded_channel();
    let (site, mut peers) = site(move |guest, message| {
        if ask(guest, &message) {
        } else if let Received::Answer(..) = message {
            of_pipe(guest, "pipe.tls", 0);
        } else if message.control("pipe.secured").is_some() {
            of_pipe(guest, "pipe.tls", 0);
        } else if let Some(value) = message.control("pipe.failed") {
            received.send(value["message"].to_string()).unwrap();
        }
    });
    site.read(get("/")).await;
    let _peer = peers.recv().await.unwrap();
    let why = events.recv().await.unwrap();
    assert!(why.contains("TLS cannot be started"), "{why}");
}

#[tokio::test]
async fn what_a_guest_sent_before_its_close_is_written() {
    let (site, mut peers) = site(move |guest, message| {
        if !ask(guest, &message) && matches!(message, Received::Answer(..)) {
            data(guest, 0, b"last words".to_vec());
            of_pipe(guest, "pipe.close", 0);
            // Late, and not wrong.
            data(guest, 0, b"x".to_vec());
            of_pipe(guest, "pipe.close", 0);
        }
    });
    site.read(get("/")).await;
    let mut text = String::new();
    let mut peer = peers.recv().await.unwrap();
    peer.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn bytes_of_a_connection_that_breaks_in_a_write_wait_no_more() {
    // More than the peer's side of the connection takes, and most of what may wait.
    const MUCH: usize = 400 << 10;
    let (received, mut events) = mpsc::unbounded_channel();
    let script = move |guest: &Guest, message: Received| match message {
        Received::Request(request) => {
            guest.ask(request.id, "socket.connect", CONNECT);
            guest.respond(request.id, 200, "asked");
        }
        Received::Answer(_, result) => {
            let opened: Value = serde_json::from_str(&result.unwrap().json).unwrap();
            for _ in 0..8 {
                data(guest, opened["id"].as_u64().unwrap(), vec![1; MUCH / 8]);
            }
        }
        message => {
            if let Some(value) = message.control("pipe.failed") {
                received.send(value["name"].to_string()).unwrap();
            }
        }
    };
    let (sender, mut peers) = mpsc::unbounded_channel();
    let site = Site::serving(
        guest::scripted(script),
        Arc::new(Peers(sender)),
        |options| options.limits.buffered = MUCH + (16 << 10),
    );
    for _ in 0..10 {
        site.read(get("/")).await;
        let mut peer = peers.recv().await.unwrap();
        // The rest of the first piece, at least, is being written when the connection breaks.
        peer.read_exact(&mut [0; 16]).await.unwrap();
        drop(peer);
        // Never for too much that waits.
        assert_eq!(events.recv().await.unwrap(), "\"TypeError\"");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let (received, mut answers) = mpsc::unbounded_channel();
    let (site, mut peers) = site_with(
        move |guest, message| match message {
            Received::Request(request) => {
                for id in 0..10_000 {
                    guest.ask(id, "socket.connect", CONNECT);
                }
                guest.respond(request.id, 200, "asked");
            }
            Received::Answer(_, result) => {
                let name = result.err().map(|error| error.name);
                received.send(name).unwrap();
            }
            _ => {}
        },
        10,
    );
    site.read(get("/")).await;
    let mut open = 0;
    for _ in 0..10_000 {
        match answers.recv().await.unwrap() {
            None => open += 1,
            Some(name) => assert_eq!(name, "BusyError"),
        }
    }
    assert_eq!(open, 10);
    let mut ends = Vec::new();
    while let Ok(end) = peers.try_recv() {
        ends.push(end);
    }
    assert_eq!(ends.len(), 10);
    // They end with the mirror.
    site.instance.drain(std::time::Duration::ZERO).await;
    for mut end in ends {
        assert_eq!(end.read(&mut [0; 8]).await.unwrap(), 0);
    }
    assert_eq!(site.observed.count("misbehaved"), 0);
}

/// A guest does `evil` once its pipe 0 is open, and is ended for it: its connection closes.
async fn is_ended(evil: impl Fn(&Guest) + Send + Sync + Clone + 'static, why: &str) {
    let (site, mut peers) = site(move |guest, message| {
        if !ask(guest, &message) && matches!(message, Received::Answer(..)) && guest.number == 0 {
            evil(guest);
        }
    });
    site.read(get("/")).await;
    let line = site.observed.wait("misbehaved 0").await;
    assert!(line.contains(why), "{line}");
    let mut rest = Vec::new();
    let mut peer = peers.recv().await.unwrap();
    peer.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= WINDOW);
}

/// More than the peer's side takes: what comes after it waits in the host.
fn fill(guest: &Guest) {
    data(guest, 0, vec![1; 100 << 10]);
}

#[tokio::test]
async fn guest_that_forges_messages_of_pipes_is_ended() {
    is_ended(|guest| data(guest, 1, vec![1]), "never was").await;
    is_ended(|guest| of_pipe(guest, "pipe.close", u64::MAX), "never was").await;
    is_ended(
        |guest| {
            of_pipe(guest, "pipe.end", 0);
            data(guest, 0, vec![1]);
        },
        "after the end",
    )
    .await;
    is_ended(
        |guest| {
            of_pipe(guest, "pipe.end", 0);
            of_pipe(guest, "pipe.end", 0);
        },
        "after the end",
    )
    .await;
    is_ended(
        |guest| guest.control("pipe.credit", r#"{"id":0,"n":1}"#),
        "more of pipe 0 than was sent",
    )
    .await;
    is_ended(
        |guest| guest.control("pipe.credit", r#"{"id":0,"n":18446744073709551615}"#),
        "more of pipe 0 than was sent",
    )
    .await;
    is_ended(
        |guest| guest.control("pipe.data", r#"{"id":0}"#),
        "not bytes",
    )
    .await;
    is_ended(
        |guest| guest.control("pipe.data", r#"{"id":0,"chunk":"text"}"#),
        "not bytes",
    )
    .await;
    is_ended(|guest| data(guest, 0, vec![1; WINDOW]), "than it may").await;
}

#[tokio::test]
async fn tls_after_the_end_fails_the_pipe_and_not_the_guest() {
    let (received, mut events) = mpsc::unbounded_channel();
    let (site, mut peers) = site(move |guest, message| {
        if ask(guest, &message) {
        } else if let Received::Answer(..) = message {
            of_pipe(guest, "pipe.end", 0);
            of_pipe(guest, "pipe.tls", 0);
            // Late, and not wrong.
            data(guest, 0, vec![1]);
            of_pipe(guest, "pipe.close", 0);
        } else if let Received::Control(name, data) = message {
            received.send((name, data.json)).unwrap();
        }
    });
    site.read(get("/")).await;
    let (name, why) = events.recv().await.unwrap();
    assert_eq!(name, "pipe.failed");
    assert!(why.contains("writable side has ended"), "{why}");
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    site.read(get("/")).await;
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn guest_that_sends_anything_while_tls_starts_is_ended() {
    for name in ["pipe.tls", "pipe.end", "pipe.data"] {
        is_ended(
            move |guest| {
                fill(guest);
                of_pipe(guest, "pipe.tls", 0);
                match name {
                    "pipe.data" => data(guest, 0, vec![1]),
                    name => of_pipe(guest, name, 0),
                }
            },
            "while TLS is being started",
        )
        .await;
    }
}

#[tokio::test]
async fn guest_that_sends_more_than_its_credit_is_ended() {
    // Messages without bytes cost something, too.
    for bytes in [0, 1, 32 << 10] {
        is_ended(
            move |guest| {
                fill(guest);
                for _ in 0..WINDOW / OVERHEAD + 1 {
                    data(guest, 0, vec![1; bytes]);
                    if guest.context.is_ending() {
                        return;
                    }
                }
            },
            "than it may",
        )
        .await;
    }
}

#[tokio::test]
async fn connection_that_was_opened_while_its_guest_gave_it_up_is_closed() {
    let (site, mut peers) = site(|guest, message| match message {
        Received::Request(request) => {
            guest.ask(7, "socket.connect", CONNECT);
            guest.respond(request.id, 200, "");
        }
        // The answer is under way, and the guest does not know of it yet.
        Received::Answer(7, opened) => {
            opened.unwrap();
            guest.control("request.cancel", r#"{"id":7}"#);
            // The control: it knows of the next one.
            guest.ask(8, "socket.connect", CONNECT);
        }
        Received::Answer(8, opened) => {
            opened.unwrap();
            guest.control("request.cancel", r#"{"id":9}"#);
            data(guest, 1, b"used".to_vec());
        }
        _ => {}
    });
    site.read(get("/")).await;
    let mut given_up = peers.recv().await.unwrap();
    assert_eq!(given_up.read(&mut [0; 8]).await.unwrap(), 0);
    let mut used = peers.recv().await.unwrap();
    used.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn answer_that_a_guest_no_longer_wants_closes_its_connection() {
    let (site, mut peers) = site(|guest, message| {
        if let Received::Request(request) = message {
            guest.send(FromIsolate::Request {
                id: 7,
                method: "socket.connect".to_owned(),
                data: stockade_protocol::Payload::from_json(CONNECT.to_owned()),
            });
            guest.control("request.cancel", r#"{"id":7}"#);
            guest.respond(request.id, 200, "");
        }
    });
    site.read(get("/")).await;
    // Opened or not before the guest lost interest: nothing of it is left.
    while let Ok(mut peer) = peers.try_recv() {
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    }
}

/// A client's connection, the test's end of it, and what ends it as a listener ends one that is idle.
fn inbound() -> (Pipe, DuplexStream, oneshot::Sender<()>) {
    let (ours, theirs) = tokio::io::duplex(1000);
    let (here, gone) = oneshot::channel();
    let pipe = Pipe {
        over: Some(Box::pin(async move {
            let _ = gone.await;
            GuestError::new("idle")
        })),
        ..Pipe::new(ours)
    };
    (pipe, theirs, here)
}

/// A site whose `connect` handlers are done when the test says so, with what `change` does to its limits.
fn handlers(
    change: impl FnOnce(&mut InstanceLimits),
) -> (Site, mpsc::UnboundedReceiver<String>, Arc<AtomicBool>) {
    let (received, events) = mpsc::unbounded_channel();
    let is_done = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&is_done);
    let script = move |guest: &Guest, message: Received| {
        if let Some(run) = message.control("connect.run") {
            let _ = received.send(format!("run {}", guest.number));
            if answers.load(Ordering::SeqCst) {
                guest.control("connect.done", format!("[{},null]", run[0]));
            }
        } else if let Received::Control(name, _) = message {
            let _ = received.send(name);
        }
    };
    let site = Site::with(guest::scripted(script), |options| {
        change(&mut options.limits)
    });
    (site, events, is_done)
}

#[tokio::test]
async fn handler_that_never_ends_is_aborted_after_its_connection() {
    let short = Duration::from_millis(500);
    let (site, mut events, is_done) = handlers(|limits| {
        (limits.concurrency, limits.wall, limits.wait_until) = (1, short, short);
        (limits.abort_grace, limits.stuck) = (short, 1);
    });
    // The control: it is done, and its connection lives on.
    let (pipe, mut client, _first) = inbound();
    site.instance.connect(pipe, Transport::Tcp).await.unwrap();
    assert_eq!(events.recv().await.unwrap(), "run 0");
    client.write_all(b"a").await.unwrap();
    assert_eq!(events.recv().await.unwrap(), "pipe.data");
    is_done.store(false, Ordering::SeqCst);
    let (pipe, _client, second) = inbound();
    let connecting = site.instance.connect(pipe, Transport::Tcp);
    tokio::pin!(connecting);
    // It has no limit as long as its connection is open.
    tokio::select! {
        ended = &mut connecting => panic!("{ended:?}"),
        run = events.recv() => assert_eq!(run.unwrap(), "run 0"),
    }
    assert!((&mut connecting).now_or_never().is_none());
    drop(second);
    assert_eq!(events.recv().await.unwrap(), "pipe.failed");
    is_done.store(true, Ordering::SeqCst);
    let (pipe, _client, _third) = inbound();
    // The place in the mirror is taken by the one that is stuck, until the mirror is replaced for it.
    let (stuck, next) = tokio::join!(connecting, site.instance.connect(pipe, Transport::Tcp));
    assert!(
        matches!(stuck, Err(FetchError::TimedOut { .. })),
        "{stuck:?}"
    );
    next.unwrap();
}

#[tokio::test]
async fn messages_of_pipes_that_find_a_full_queue_are_not_lost() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (received, mut events) = mpsc::unbounded_channel();
    let (blocked, mut blocks) = mpsc::unbounded_channel();
    let supervisor = guest::supervisor(move |guest| {
        for (id, asked) in [
            (1, "binding.open"),
            (2, "binding.open"),
            (3, "binding.call"),
        ] {
            guest.ask(id, asked, r#"{"binding":"A","method":"a","args":[]}"#);
        }
        let answers = AtomicUsize::new(0);
        let (wait, received, blocked) = (Arc::clone(&wait), received.clone(), blocked.clone());
        Some(Box::new(
            move |guest: &Guest, message: Received| match message {
                Received::Answer(_, answer) => {
                    answer.unwrap();
                    if answers.fetch_add(1, Ordering::SeqCst) < 2 {
                        return;
                    }
                    // The first stream of a guest of a host that is not a mirror.
                    guest.control("stream.pull", r#"{"id":1099511627776,"n":1}"#);
                    data(guest, 0, vec![1; WINDOW / 4]);
                    of_pipe(guest, "pipe.end", 0);
                    data(guest, 1, vec![1; WINDOW / 4]);
                    blocked.send(()).unwrap();
                    wait.lock().recv().unwrap();
                }
                Received::Control(name, _) => received.send(name).unwrap(),
                _ => {}
            },
        ))
    });
    let queue = EventQueue::new();
    let handle = supervisor
        .create(IsolateOptions::default(), &queue)
        .await
        .unwrap();
    handle.listen();
    let (sender, mut peers) = mpsc::unbounded_channel();
    let (body, stream) = piecewise();
    let door = Door(Peers(sender), Mutex::new(Some(stream)));
    let granted: Arc<dyn Capability> = Arc::new(door);
    let services = GrantedServices::new(HashMap::from([("A".to_owned(), granted)]));
    let guest = GrantedGuest::new(
        "a",
        supervisor.clone(),
        handle.clone(),
        Arc::new(services),
        Takes::Bindings,
        InstanceLimits::default(),
    );
    let taking = tokio::spawn(async move {
        loop {
            for event in queue.events().await.1 {
                guest.take(event);
            }
        }
    });
    // The guest takes nothing more, and as much waits for it as may.
    blocks.recv().await.unwrap();
    while handle.send("filler", Payload::default()).is_ok() {}
    let (mut peer, broken) = (peers.recv().await.unwrap(), peers.recv().await.unwrap());
    peer.read_exact(&mut vec![0; WINDOW / 4]).await.unwrap();
    peer.shutdown().await.unwrap();
    drop((broken, body));
    // On the one thread of the test, what carries the connections gets as far as it can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(events.recv().await.unwrap());
    }
    all.sort();
    let expected = [
        "pipe.closed",
        "pipe.credit",
        "pipe.end",
        "pipe.failed",
        "stream.end",
    ];
    assert_eq!(all, expected);
    taking.abort();
}

/// Opens what [`Peers`] opens, and gives a stream.
struct Door(Peers, Mutex<Option<Body>>);

impl Capability for Door {
    fn call(
        &self,
        _context: CallContext,
        _method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let mut reply = Reply::default();
        let stream = reply.stream(self.1.lock().take().unwrap());
        Box::pin(std::future::ready(reply.finish(&stream)))
    }

    fn open(
        &self,
        _context: CallContext,
        _method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let request = ConnectRequest {
            host: "db.example".to_owned(),
            port: 5432,
            protocol: SocketProtocol::Tcp,
            secure: SecureTransport::StartTls,
            server_name: None,
        };
        self.0.connect(request)
    }
}
