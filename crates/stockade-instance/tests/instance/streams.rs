//! Bodies that are streams, both ways.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::guest::{self, Body, Guest, Received, serving};
use crate::site::{Site, full, get, piecewise, request, text};

/// Sends what each stream has as it is pulled.
#[derive(Default, Clone)]
struct Sources(Arc<Mutex<HashMap<u64, Vec<Vec<u8>>>>>);

impl Sources {
    fn add(&self, id: u64, chunks: Vec<Vec<u8>>) {
        self.0.lock().insert(id, chunks);
    }

    fn receive(&self, guest: &Guest, received: &Received) {
        let Some(pull) = received.control("stream.pull") else {
            return;
        };
        let id = pull["id"].as_u64().unwrap();
        let mut sources = self.0.lock();
        for _ in 0..pull["n"].as_u64().unwrap_or(1) {
            let Some(chunks) = sources.get_mut(&id) else {
                return;
            };
            if chunks.is_empty() {
                sources.remove(&id);
                guest.end_stream(id);
                return;
            }
            let chunk = chunks.remove(0);
            guest.chunk(id, &chunk);
        }
    }
}

/// A site whose response streams these chunks, and the notices of cancelled streams and aborts that it got.
fn streaming(
    chunks: Vec<Vec<u8>>,
    headers: &'static str,
) -> (Site, mpsc::UnboundedReceiver<String>) {
    let (received, events) = mpsc::unbounded_channel();
    let sources = Sources::default();
    let site = Site::new(guest::scripted(move |guest, message| {
        sources.receive(guest, &message);
        for name in ["stream.cancel", "http.abort", "stream.error"] {
            if message.control(name).is_some() {
                received.send(name.to_owned()).unwrap();
            }
        }
        if let Received::Request(request) = message {
            sources.add(request.id, chunks.clone());
            guest.respond_stream(request.id, headers, request.id);
        }
    }));
    (site, events)
}

#[tokio::test]
async fn response_stream_arrives_whole_and_in_order() {
    let chunks: Vec<Vec<u8>> = (0..500_u32).map(|n| format!("{n},").into_bytes()).collect();
    let expected: String = (0..500).map(|n| format!("{n},")).collect();
    let (site, _) = streaming(chunks, "[]");
    for _ in 0..3 {
        assert_eq!(site.read(get("/")).await.1, expected);
    }
    assert_eq!(site.instance.stats().in_flight, 0);
}

#[tokio::test]
async fn response_stream_is_pulled_no_further_than_its_reader_needs() {
    let pulled = Arc::new(Mutex::new(0));
    let count = Arc::clone(&pulled);
    let site = Site::new(guest::scripted(move |guest, message| {
        if let Some(pull) = message.control("stream.pull") {
            for _ in 0..pull["n"].as_u64().unwrap() {
                *count.lock() += 1;
                guest.chunk(pull["id"].as_u64().unwrap(), &[0; 1 << 20]);
            }
        } else if let Received::Request(request) = message {
            guest.respond_stream(request.id, "[]", 9);
        }
    }));
    let mut body = site.get("/").await.unwrap().into_body();
    for _ in 0..5 {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap().len(), 1 << 20);
    }
    // Chunks of 1 MiB come one at a time: five were read, one is on its way.
    assert!(*pulled.lock() <= 6, "{}", pulled.lock());
}

#[tokio::test]
async fn response_stream_that_is_dropped_is_cancelled_and_the_request_aborted() {
    let (site, mut events) = streaming(vec![vec![1]; 1000], "[]");
    let mut body = site.get("/").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(site.instance.stats().in_flight, 1);
    drop(body);
    let mut received = [events.recv().await.unwrap(), events.recv().await.unwrap()];
    received.sort();
    assert_eq!(received, ["http.abort", "stream.cancel"]);
    assert_eq!(site.instance.stats().in_flight, 0);
}

#[tokio::test]
async fn response_stream_to_head_is_cancelled() {
    let (site, mut events) = streaming(vec![vec![1]; 10], r#"["content-length","10"]"#);
    let head = request(Method::HEAD, "/", full(""));
    let response = site.instance.fetch(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], "10");
    assert_eq!(events.recv().await.unwrap(), "stream.cancel");
}

#[tokio::test]
async fn response_stream_of_another_length_than_it_says_is_broken_off() {
    for (length, fails) in [("4", false), ("3", true), ("5", true)] {
        let headers: &'static str = match length {
            "4" => r#"["content-length","4"]"#,
            "3" => r#"["content-length","3"]"#,
            _ => r#"["content-length","5"]"#,
        };
        let (site, _) = streaming(vec![vec![1, 2], vec![3, 4]], headers);
        let response = site.get("/").await.unwrap();
        assert_eq!(response.headers()["content-length"], length);
        assert_eq!(text(response).await.is_err(), fails, "{length}");
    }
}

#[tokio::test]
async fn response_stream_that_stalls_or_fails_is_broken_off() {
    let site = Site::with(
        guest::scripted(|guest, message| {
            if let Some(pull) = message.control("stream.pull")
                && pull["id"] == 2
            {
                guest.control("stream.error", r#"{"id":2,"message":"boom"}"#);
            } else if let Received::Request(request) = message {
                let stream = if request.path() == "/fails" { 2 } else { 1 };
                guest.respond_stream(request.id, "[]", stream);
            }
        }),
        |options| options.limits.stall = Duration::from_millis(500),
    );
    let stalled = text(site.get("/stalls").await.unwrap()).await.unwrap_err();
    assert!(stalled.to_string().contains("too long"), "{stalled}");
    let failed = text(site.get("/fails").await.unwrap()).await.unwrap_err();
    assert!(failed.to_string().contains("boom"), "{failed}");
    assert_eq!(site.instance.stats().in_flight, 0);
}

#[tokio::test]
async fn response_stream_over_the_limit_is_broken_off() {
    let sources = Sources::default();
    let site = Site::with(
        guest::scripted(move |guest, message| {
            sources.receive(guest, &message);
            if let Received::Request(request) = message {
                sources.add(1, vec![vec![0; 10]; 10]);
                guest.respond_stream(request.id, "[]", 1);
            }
        }),
        |options| options.limits.response_body = Some(50),
    );
    let error = text(site.get("/").await.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("50 bytes"), "{error}");
}

/// By stream: its request, and what was read of it.
type Reading = HashMap<u64, (u64, Vec<u8>)>;

/// Reads the request's stream with `ahead` pulls, then responds with all of it.
fn reader(ahead: u64) -> impl Fn(&Guest, Received) + Send + Sync + Clone + 'static {
    let read: Arc<Mutex<Reading>> = Arc::default();
    move |guest, received| match &received {
        Received::Request(request) => {
            let Body::Stream(stream) = request.body else {
                panic!("{:?}", request.body);
            };
            read.lock().insert(stream, (request.id, Vec::new()));
            guest.control("stream.pull", format!("{{\"id\":{stream},\"n\":{ahead}}}"));
        }
        Received::Control(name, data) if name.starts_with("stream.") => {
            let value: serde_json::Value = serde_json::from_str(&data.json).unwrap();
            let stream = value["id"].as_u64().unwrap();
            let mut read = read.lock();
            match name.as_str() {
                "stream.chunk" => {
                    let Body::Bytes(bytes) = guest::body(&value["chunk"], data) else {
                        panic!("{value}");
                    };
                    assert!(bytes.len() <= 64 << 10);
                    read.get_mut(&stream).unwrap().1.extend(bytes);
                    guest.control("stream.pull", format!("{{\"id\":{stream}}}"));
                }
                "stream.end" => {
                    let (id, bytes) = read.remove(&stream).unwrap();
                    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                    guest.respond(id, 200, &format!("{} {sum}", bytes.len()));
                }
                _ => {
                    let (id, bytes) = read.remove(&stream).unwrap();
                    guest.respond(
                        id,
                        200,
                        &format!("failed after {}: {}", bytes.len(), value["message"]),
                    );
                }
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn request_body_that_is_large_is_a_stream() {
    for ahead in [1, 8, 1 << 40] {
        let site = Site::new(guest::scripted(reader(ahead)));
        let (status, read) = site
            .read(request(Method::POST, "/", full(vec![1; 1_000_000])))
            .await;
        assert_eq!((status, read.as_str()), (200, "1000000 1000000"));
    }
}

#[tokio::test]
async fn request_body_is_read_only_as_the_guest_pulls() {
    let site = Site::new(serving(|_, _| {}));
    let (sender, body) = piecewise();
    let instance = site.instance.clone();
    let asking =
        tokio::spawn(async move { instance.fetch(request(Method::POST, "/", body)).await });
    while site.instance.stats().in_flight < 1 {
        tokio::task::yield_now().await;
    }
    // One piece waits in the channel, and nobody takes it.
    sender.send(Ok(Bytes::from("a"))).await.unwrap();
    let second = sender.try_send(Ok(Bytes::from("b")));
    assert!(second.is_err());
    asking.abort();
}

#[tokio::test]
async fn request_body_that_breaks_off_fails_in_the_guest() {
    let site = Site::new(guest::scripted(reader(1)));
    let (sender, body) = piecewise();
    let instance = site.instance.clone();
    let asking = tokio::spawn(async move {
        let response = instance.fetch(request(Method::POST, "/", body)).await;
        text(response.unwrap()).await.unwrap()
    });
    sender.send(Ok(Bytes::from("abc"))).await.unwrap();
    sender.send(Err("reset".into())).await.unwrap();
    assert_eq!(asking.await.unwrap(), "failed after 3: \"reset\"");
}

#[tokio::test]
async fn request_stream_over_the_limit_is_413() {
    let site = Site::with(
        guest::scripted({
            let read = reader(8);
            move |guest, received| {
                // The guest's own answer would come second.
                if received.control("stream.error").is_none() {
                    read(guest, received);
                }
            }
        }),
        |options| options.limits.request_body = Some(100_000),
    );
    let (sender, body) = piecewise();
    tokio::spawn(
        async move { while sender.send(Ok(Bytes::from(vec![0; 30_000]))).await.is_ok() {} },
    );
    let error = site
        .instance
        .fetch(request(Method::POST, "/", body))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 413);
}

#[tokio::test]
async fn request_stream_ends_with_its_request() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| {
        if let Some(error) = message.control("stream.error") {
            received.send(error["message"].to_string()).unwrap();
        } else if let Received::Request(request) = message {
            guest.respond(request.id, 200, "early");
        }
    }));
    let (sender, body) = piecewise();
    let (_, answer) = site.read(request(Method::POST, "/", body)).await;
    assert_eq!(answer, "early");
    assert!(events.recv().await.unwrap().contains("is over"));
    sender.closed().await;
}

#[tokio::test]
async fn request_stream_can_be_the_response() {
    // The guest passes chunks on as they come: both streams are open at the same time.
    let site = Site::new(guest::scripted(|guest, message| match &message {
        Received::Request(request) => guest.respond_stream(request.id, "[]", 77),
        Received::Control(name, data) => {
            let value: serde_json::Value = serde_json::from_str(&data.json).unwrap();
            match name.as_str() {
                "stream.pull" => {
                    let n = value["n"].as_u64().unwrap();
                    guest.control("stream.pull", format!("{{\"id\":0,\"n\":{n}}}"));
                }
                "stream.chunk" => {
                    let Body::Bytes(bytes) = guest::body(&value["chunk"], data) else {
                        panic!("{value}");
                    };
                    guest.chunk(77, &bytes);
                }
                "stream.end" => guest.end_stream(77),
                _ => {}
            }
        }
        _ => {}
    }));
    let (sender, body) = piecewise();
    let response = site
        .instance
        .fetch(request(Method::POST, "/", body))
        .await
        .unwrap();
    let mut body = response.into_body();
    for n in 0..20 {
        sender
            .send(Ok(Bytes::from(format!("piece {n}"))))
            .await
            .unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("piece {n}"));
    }
    drop(sender);
    assert!(body.frame().await.is_none());
}

/// Responds with a stream of the host's, by its mark.
fn give_back(guest: &Guest, id: u64, stream: u64, headers: &str) {
    guest.control_marked(
        "http.response",
        format!("[{id},200,{headers},\"\\u0000h{stream}\",null,false]"),
        Vec::new(),
    );
}

#[tokio::test]
async fn request_stream_that_is_given_back_goes_on_without_the_guest() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| match message {
        Received::Request(request) => {
            let Body::Stream(stream) = request.body else {
                panic!("{:?}", request.body);
            };
            give_back(guest, request.id, stream, "[]");
        }
        Received::Control(name, _) => received.send(name).unwrap(),
        _ => {}
    }));
    for _ in 0..3 {
        let post = request(Method::POST, "/", full(vec![b'x'; 300_000]));
        assert_eq!(site.read(post).await.1.len(), 300_000);
    }
    assert_eq!(site.instance.stats().in_flight, 0);
    assert!(events.try_recv().is_err(), "the guest is not notified");
    // When the client breaks it off, the guest is notified as for any other stream.
    let (sender, body) = piecewise();
    let response = site.instance.fetch(request(Method::POST, "/", body)).await;
    let mut body = response.unwrap().into_body();
    sender.send(Ok(Bytes::from("a"))).await.unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(events.recv().await.unwrap(), "http.abort");
    sender.closed().await;
}

#[tokio::test]
async fn stream_that_is_given_back_but_is_not_there_fails() {
    let site = Site::new(serving(|guest, request| {
        give_back(guest, request.id, 4711, "[]");
    }));
    let error = text(site.get("/").await.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("is over"), "{error}");
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn stream_that_is_given_back_keeps_the_limits_of_both_directions() {
    let site = Site::with(
        serving(|guest, request| {
            let Body::Stream(stream) = request.body else {
                panic!("{:?}", request.body);
            };
            give_back(guest, request.id, stream, r#"["content-length","100001"]"#);
        }),
        |options| options.limits.request_body = Some(100_000),
    );
    let (sender, body) = piecewise();
    tokio::spawn(
        async move { while sender.send(Ok(Bytes::from(vec![0; 70_000]))).await.is_ok() {} },
    );
    let response = site.instance.fetch(request(Method::POST, "/", body)).await;
    assert!(text(response.unwrap()).await.is_err());
}
