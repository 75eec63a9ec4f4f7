//! Start, reload, drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use stockade_gateway::{Address, Gateway, Limits, Listener, Observer, Pattern, Route, Unobserved};
use stockade_http::Body;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::harness::*;

fn says(word: &'static str) -> Vec<Route> {
    let target = move |_request: Request<Body>| async move { text(word) };
    vec![Route::new("all", vec![Pattern::any()], Arc::new(target))]
}

fn at(address: Address) -> Listener {
    Listener {
        name: address.to_string().into(),
        address,
        ..listener()
    }
}

fn free() -> Address {
    Address::Tcp(([127, 0, 0, 1], 0).into())
}

fn observer() -> Arc<dyn Observer> {
    Arc::new(Unobserved)
}

async fn connect(address: &Address) -> std::io::Result<Raw> {
    let Address::Tcp(address) = address else {
        panic!("not TCP")
    };
    TcpStream::connect(address).await.map(Raw::new)
}

/// A target that waits for a permit, and the notice of each beginning.
fn waiting() -> (Vec<Route>, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let permits = Arc::new(Semaphore::new(0));
    let (begun, has_begun) = mpsc::unbounded_channel();
    let turns = Arc::clone(&permits);
    let target = move |_request: Request<Body>| {
        let (turns, begun) = (Arc::clone(&turns), begun.clone());
        async move {
            begun.send(()).unwrap();
            turns.acquire().await.unwrap().forget();
            text("old")
        }
    };
    (
        vec![Route::new("all", vec![Pattern::any()], Arc::new(target))],
        permits,
        has_begun,
    )
}

#[tokio::test]
async fn reload_changes_answers_and_keeps_connections() {
    let (routes, permits, mut begun) = waiting();
    let server = Server::start(listener(), table(routes), Limits::default()).await;
    let mut idle = server.connect().await;
    permits.add_permits(1);
    assert_eq!(idle.ask(get("/")).await.text(), "old");
    soon(begun.recv()).await.unwrap();
    let mut running = server.connect().await;
    running.send(get("/")).await;
    soon(begun.recv()).await.unwrap();
    let same = at(Address::Tcp(server.address));
    server
        .gateway
        .reload(vec![same], table(says("new")), Limits::default())
        .await
        .unwrap();
    assert_eq!(idle.ask(get("/")).await.text(), "new");
    permits.add_permits(1);
    assert_eq!(running.answer().await.text(), "old");
    assert_eq!(running.ask(get("/")).await.text(), "new");
    assert_eq!(server.gateway.stats().accepted, 2);
}

#[tokio::test]
async fn reload_opens_and_closes_listeners() {
    let gateway = Gateway::start(
        vec![at(free()), at(free())],
        table(says("x")),
        Limits::default(),
        observer(),
    )
    .await
    .unwrap();
    let [(_, first), (_, second)] = gateway.addresses().try_into().unwrap();
    let mut lives_on = connect(&second).await.unwrap();
    assert_eq!(lives_on.ask(get("/")).await.text(), "x");
    let listeners = vec![at(first.clone()), at(free())];
    gateway
        .reload(listeners, table(says("y")), Limits::default())
        .await
        .unwrap();
    let [(_, kept), (_, third)] = gateway.addresses().try_into().unwrap();
    assert_eq!(kept, first);
    assert!(connect(&second).await.is_err());
    assert_eq!(lives_on.ask(get("/")).await.text(), "y");
    for address in [&first, &third] {
        let mut client = connect(address).await.unwrap();
        assert_eq!(client.ask(get("/")).await.text(), "y");
    }
}

#[tokio::test]
async fn reload_that_is_prepared_and_dropped_changes_nothing() {
    let server = Server::start(listener(), table(says("old")), Limits::default()).await;
    let old = Address::Tcp(server.address);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let new = Address::Tcp(unused.local_addr().unwrap());
    drop(unused);
    let listeners = || vec![at(old.clone()), at(new.clone())];
    let prepared = server
        .gateway
        .prepare(listeners(), table(says("new")), Limits::default())
        .await
        .unwrap();
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.text(), "old");
    drop(prepared);
    assert_eq!(client.ask(get("/")).await.text(), "old");
    assert!(connect(&new).await.is_err());
    assert_eq!(server.gateway.addresses().len(), 1);
    // Neither the lock nor the address is held by what was dropped.
    soon(
        server
            .gateway
            .reload(listeners(), table(says("new")), Limits::default()),
    )
    .await
    .unwrap();
    for address in [&old, &new] {
        let mut client = connect(address).await.unwrap();
        assert_eq!(client.ask(get("/")).await.text(), "new");
    }
}

#[tokio::test]
async fn reload_that_fails_changes_nothing() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Address::Tcp(other.local_addr().unwrap());
    let server = Server::start(listener(), table(says("old")), Limits::default()).await;
    let listeners = vec![at(free()), at(taken.clone())];
    let error = server
        .gateway
        .reload(listeners, table(says("new")), Limits::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken}: binding failed"))
    );
    assert!(
        error
            .to_string()
            .contains("fix: end the process that listens there"),
        "{error}"
    );
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.text(), "old");
    assert_eq!(server.gateway.addresses().len(), 1);
}

#[tokio::test]
async fn start_on_a_taken_address_is_refused() {
    let server = Server::one(hello).await;
    let taken = at(Address::Tcp(server.address));
    let error = Gateway::start(vec![taken], table(says("x")), Limits::default(), observer()).await;
    assert!(error.is_err());
}

#[tokio::test]
async fn thousand_reloads_leave_nothing_behind() {
    let server = Server::one(hello).await;
    let mut client = server.connect().await;
    let dropped = Arc::new(());
    for _ in 0..1000 {
        let held = Arc::clone(&dropped);
        let target = move |request: Request<Body>| {
            let _held = Arc::clone(&held);
            hello(request)
        };
        let routes = vec![Route::new("all", vec![Pattern::any()], Arc::new(target))];
        let same = at(Address::Tcp(server.address));
        server
            .gateway
            .reload(vec![same], table(routes), Limits::default())
            .await
            .unwrap();
        assert_eq!(client.ask(get("/")).await.status, 200);
    }
    assert_eq!(Arc::strong_count(&dropped), 2, "old tables are gone");
}

#[tokio::test]
async fn client_that_connected_before_a_drain_is_answered() {
    let (routes, permits, _begun) = waiting();
    let server = Server::start(listener(), table(routes), Limits::default()).await;
    permits.add_permits(2);
    let mut idle = server.connect().await;
    assert_eq!(idle.ask(get("/")).await.text(), "old");
    let mut silent = server.connect().await;
    soon(async {
        while server.gateway.stats().connections < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let gateway = server.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    // It is closed because the gateway drains.
    idle.closed().await;
    silent.send(get("/")).await;
    let answer = silent.answer().await;
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("old", Some("close"))
    );
    silent.closed().await;
    assert_eq!(soon(drained).await.unwrap().cut, 0);
}

#[tokio::test]
async fn drain_waits_for_what_runs() {
    let (routes, permits, mut begun) = waiting();
    let server = Server::start(listener(), table(routes), Limits::default()).await;
    let mut idle = server.connect().await;
    permits.add_permits(1);
    assert_eq!(idle.ask(get("/")).await.text(), "old");
    soon(begun.recv()).await.unwrap();
    let mut silent = server.connect().await;
    let mut running = server.connect().await;
    running.send(get("/")).await;
    soon(begun.recv()).await.unwrap();
    let gateway = server.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    idle.closed().await;
    silent.closed().await;
    assert!(TcpStream::connect(server.address).await.is_err());
    permits.add_permits(1);
    let answer = running.answer().await;
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("old", Some("close"))
    );
    running.closed().await;
    let drained = soon(drained).await.unwrap();
    assert_eq!((drained.ended, drained.cut), (3, 0));
    assert_eq!(server.gateway.stats().connections, 0);
}

#[tokio::test]
async fn drain_cuts_what_does_not_end() {
    let (routes, _permits, mut begun) = waiting();
    let server = Server::start(listener(), table(routes), Limits::default()).await;
    let mut running = server.connect().await;
    running.send(get("/")).await;
    soon(begun.recv()).await.unwrap();
    let began = Instant::now();
    let drained = server.gateway.drain(Duration::from_millis(200)).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!((drained.ended, drained.cut), (0, 1));
    running.closed().await;
    assert_eq!(server.gateway.stats().connections, 0);
    // A reload opens nothing again.
    let again = vec![at(free())];
    server
        .gateway
        .reload(again, table(says("x")), Limits::default())
        .await
        .unwrap();
    assert!(server.gateway.addresses().is_empty());
}

#[tokio::test]
async fn gateway_that_is_dropped_serves_no_more() {
    let server = Server::one(hello).await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.status, 200);
    let Server {
        gateway, address, ..
    } = server;
    drop(gateway);
    client.closed().await;
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn unix_socket_serves_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let start = || {
        let listeners = vec![at(Address::Unix(path.clone()))];
        Gateway::start(listeners, table(says("x")), Limits::default(), observer())
    };
    // A file that nobody listens on is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let gateway = start().await.unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon(tokio::io::AsyncReadExt::read_to_string(
        &mut stream,
        &mut answer,
    ))
    .await
    .unwrap();
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
    // One that is in use, or is something else, is not.
    assert!(start().await.is_err());
    gateway.drain(PATIENCE).await;
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let error = start().await.unwrap_err();
    assert!(
        error.to_string().contains("a file that is not a socket"),
        "{error}"
    );
}

#[tokio::test]
async fn request_that_comes_while_draining_is_the_last() {
    let (routes, permits, mut begun) = waiting();
    let server = Server::start(listener(), table(routes), Limits::default()).await;
    let mut client = server.connect().await;
    client.send(format!("{}{}", get("/1"), get("/2"))).await;
    soon(begun.recv()).await.unwrap();
    let gateway = server.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    soon(async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    permits.add_permits(2);
    assert_eq!(client.answer().await.header("connection"), Some("close"));
    let _: Vec<u8> = client.rest().await;
    assert_eq!(soon(drained).await.unwrap().cut, 0);
}
