//! Which connections are used again, and by whom.

use std::sync::Arc;

use http::Request;
use stockade_broker::{EgressError, Outcome};
use tokio::io::AsyncWriteExt as _;

use super::servers;
use super::setting::{Setting, bytes, full, get, text};

#[tokio::test]
async fn connection_read_to_its_end_is_used_again_by_its_own_instance_only() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let acme = setting.open(|_| ());
    let other = setting
        .broker
        .egress("other", setting.policy(|_| ()), Default::default())
        .unwrap();
    for _ in 0..5 {
        assert_eq!(
            text(get(&acme, &server.url("/")).await.unwrap()).await,
            "ok"
        );
        setting.ended(Outcome::Done).await;
    }
    assert_eq!(server.connections(), 1);
    for _ in 0..5 {
        assert_eq!(
            text(get(&other, &server.url("/")).await.unwrap()).await,
            "ok"
        );
        setting.ended(Outcome::Done).await;
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn connection_of_a_response_that_was_dropped_is_closed() {
    let (closed, mut closes) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::raw(move |mut stream| {
        let closed = closed.clone();
        async move {
            servers::read_head(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
                .await;
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
            let _ = closed.send(());
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for _ in 0..2 {
        let response = get(&egress, &server.url("/")).await.unwrap();
        drop(response);
        closes.recv().await.unwrap();
        setting.ended(Outcome::Abandoned).await;
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn fetch_that_is_dropped_closes_its_connection() {
    let (closed, mut closes) = tokio::sync::mpsc::unbounded_channel();
    let (came, mut comes) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::raw(move |mut stream| {
        let (closed, came) = (closed.clone(), came.clone());
        async move {
            servers::read_head(&mut stream).await;
            let _ = came.send(());
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
            let _ = closed.send(());
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let fetch = tokio::spawn(egress.fetch(super::setting::get_request(&server.url("/"))));
    comes.recv().await.unwrap();
    fetch.abort();
    closes.recv().await.unwrap();
    setting.ended(Outcome::Abandoned).await;
}

#[tokio::test]
async fn connection_that_the_server_closed_meanwhile_is_replaced() {
    // Each connection serves one request and is closed without a word.
    let server = servers::raw(|mut stream| async move {
        servers::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for n in 1..=20 {
        let response = get(&egress, &server.url("/")).await.unwrap();
        assert_eq!(text(response).await, "ok", "request {n}");
    }
}

#[tokio::test]
async fn request_that_may_have_been_taken_is_not_sent_twice() {
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = taken.clone();
    // The first request of a connection is answered, the second is taken and the connection closed.
    let server = servers::raw(move |mut stream| {
        let counted = counted.clone();
        async move {
            servers::read_head(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
            if servers::read_head(&mut stream).await.starts_with("POST") {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    assert_eq!(
        text(get(&egress, &server.url("/")).await.unwrap()).await,
        "ok"
    );
    setting.ended(Outcome::Done).await;
    let request = Request::post(server.url("/pay"))
        .body(full("once"))
        .unwrap();
    let error = egress.clone().fetch(request).await.unwrap_err();
    assert!(matches!(error, EgressError::Upstream { .. }), "{error}");
    assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 1);
    // A safe one is: once more, over a new connection.
    assert_eq!(
        text(get(&egress, &server.url("/")).await.unwrap()).await,
        "ok"
    );
    setting.ended(Outcome::Failed).await;
    setting.ended(Outcome::Done).await;
    let response = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(bytes(response).await.unwrap(), "ok");
}

#[tokio::test]
async fn connection_that_is_refused_says_so_without_an_address() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let dns = super::dns::Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let url = format!("http://down.example:{port}/");
    let error = get(&setting.open(|_| ()), &url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("http://down.example:{port}: no connection: connection refused")
    );
    setting.ended(Outcome::Failed).await;
}

#[tokio::test]
async fn request_under_way_outlives_the_policy_that_began_it() {
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    let may_go = Arc::new(parking_lot::Mutex::new(Some(may_go)));
    let server = servers::raw(move |mut stream| {
        let may_go = may_go.lock().take();
        async move {
            servers::read_head(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\non")
                .await;
            let _ = may_go.unwrap().await;
            let _ = stream.write_all(b"ce").await;
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let response = get(&egress, &server.url("/")).await.unwrap();
    drop(egress);
    let stricter = setting.open(|policy| policy.rules.clear());
    assert!(get(&stricter, &server.url("/")).await.is_err());
    go.send(()).unwrap();
    assert_eq!(text(response).await, "once");
}

/// Descriptors of this process; each case runs in one of its own.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Tasks and descriptors are released when requests are over, however they ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_all_kinds_leave_nothing_behind() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = servers::raw(move |mut stream| {
        let kind = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 6;
        async move {
            servers::read_head(&mut stream).await;
            let answer: &[u8] = match kind {
                0 => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                1 => b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok",
                2 => b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
                3 => b"garbage\r\n\r\n",
                4 => b"",
                _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            };
            let _ = stream.write_all(answer).await;
            if kind == 5 {
                let mut rest = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
            }
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.idle_timeout = std::time::Duration::from_millis(50);
    });
    let url = server.url("/");
    // Descriptors of the runtime are there from now on.
    let _ = get(&egress, &url).await.map(drop);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = (descriptors(), tasks());
    for n in 0..600 {
        let body = if n % 3 == 0 {
            full(vec![0; 10_000])
        } else {
            super::setting::empty()
        };
        let request = Request::post(&url).body(body).unwrap();
        match egress.clone().fetch(request).await {
            Ok(response) if n % 2 == 0 => drop(bytes(response).await),
            other => drop(other),
        }
    }
    drop(egress);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let now = (descriptors(), tasks());
        // The task that maintains kept connections sees the end at its next round.
        if now.0 <= before.0 + 1 && now.1 <= before.1 + 2 {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{before:?} before, {now:?} after"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
