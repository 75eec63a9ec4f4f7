//! Mirrors that are for one request each.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;
use stockade_capability::CallPayload;
use stockade_http::{SocketMessage, Upgrade};
use stockade_instance::{FetchError, InstanceOptions, MirrorState, Scaling};
use stockade_limits::Fresh;
use stockade_protocol::{FromIsolate, Payload};
use stockade_supervisor::{Supervisor, TerminateReason};
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received, serving};
use crate::site::{Site, from_client, full, get, request};

fn fresh(supervisor: Supervisor, change: impl FnOnce(&mut InstanceOptions)) -> Site {
    Site::with(supervisor, |options| {
        options.fresh = Fresh::Request;
        change(options);
    })
}

/// Waits until as many mirrors are there as are kept ready, and no other.
async fn at_rest(site: &Site, ready: usize) {
    let rests = async {
        loop {
            let mirrors = site.instance.stats().mirrors;
            if mirrors.len() == ready && mirrors.iter().all(|m| m.state == MirrorState::Ready) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(60), rests).await;
    assert!(rested.is_ok(), "{:#?}", site.instance.stats());
}

#[tokio::test]
async fn fresh_each_request_has_a_mirror_that_nobody_used() {
    let site = fresh(
        serving(|guest, request| guest.respond(request.id, 200, &guest.number.to_string())),
        |options| options.scaling = Scaling::Fixed(2),
    );
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let (status, number) = site.read(get("/")).await;
        assert_eq!(status, 200);
        assert!(seen.insert(number), "{seen:?}");
    }
    let all = join_all((0..50).map(|_| site.read(get("/")))).await;
    for (status, number) in all {
        assert_eq!(status, 200);
        assert!(seen.insert(number), "{seen:?}");
    }
    at_rest(&site, 2).await;
    let served = site.observed.count(" served ");
    assert_eq!(served, 100, "{:#?}", site.observed.lines());
    assert_eq!(site.observed.count("requests=1 in_flight=0"), 100);
}

#[tokio::test]
async fn fresh_mirrors_are_reused_without_it() {
    let site = Site::new(serving(|guest, request| {
        guest.respond(request.id, 200, &guest.number.to_string());
    }));
    assert_eq!(site.read(get("/")).await.1, "0");
    assert_eq!(site.read(get("/")).await.1, "0");
}

#[tokio::test]
async fn fresh_mirrors_are_never_more_than_the_concurrency() {
    let (received, mut asked) = mpsc::unbounded_channel();
    let site = Arc::new(fresh(
        guest::scripted(move |guest, message| {
            if let Received::Request(request) = message {
                received.send(guest.number).unwrap();
                if request.path() == "/hold" {
                    guest.respond_stream(request.id, "[]", 1);
                } else {
                    guest.respond(request.id, 200, "");
                }
            } else if message.control("stream.pull").is_some() {
                guest.chunk(1, b"x");
            }
        }),
        |options| options.limits.concurrency = 3,
    ));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(site.get("/hold").await.unwrap());
    }
    let waiting = {
        let site = Arc::clone(&site);
        tokio::spawn(async move { site.read(get("/")).await })
    };
    while site.instance.stats().queued < 1 {
        tokio::task::yield_now().await;
    }
    // All three are in use: nothing is kept ready, and the fourth request waits.
    site.instance.stats().mirrors.iter().for_each(|mirror| {
        assert_eq!(mirror.state, MirrorState::Draining);
    });
    assert_eq!(site.instance.stats().mirrors.len(), 3);
    assert!(site.instance.stats().serves);
    held.pop();
    assert_eq!(waiting.await.unwrap().0, 200);
    for _ in 0..4 {
        asked.recv().await.unwrap();
    }
    drop(held);
    at_rest(&site, 1).await;
}

#[tokio::test]
async fn fresh_mirror_stays_for_its_promises_and_no_longer() {
    let (received, mut asked) = mpsc::unbounded_channel();
    let site = fresh(
        serving(move |guest, request| {
            guest.control(
                "http.response",
                format!("[{},200,[],\"\",null,true]", request.id),
            );
            received.send(request.id).unwrap();
        }),
        |options| options.limits.wait_until = Duration::from_secs(1),
    );
    assert_eq!(site.read(get("/pending")).await.0, 200);
    assert_eq!(asked.recv().await.unwrap(), 1);
    assert_eq!(site.observed.count(" served "), 0);
    // Promises that stay open are waited for as long as the limit says.
    site.observed.wait(" served ").await;
    at_rest(&site, 1).await;
}

#[tokio::test]
async fn fresh_mirror_that_never_answers_is_ended() {
    let site = fresh(serving(|_, _| {}), |options| {
        options.limits.wall = Duration::from_millis(10);
        options.limits.abort_grace = Duration::from_millis(10);
        options.limits.concurrency = 1;
    });
    for number in 0..2 {
        let error = site.get("/").await.unwrap_err();
        assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
        let ended = site.observed.wait_for(" recycled_stuck", number + 1);
        ended.await;
    }
}

#[tokio::test]
async fn fresh_mirror_that_its_request_ends_does_not_delay_the_next() {
    let site = fresh(
        serving(|guest, request| {
            if request.path() == "/crash" {
                let reason = TerminateReason::CpuLimit;
                guest.context.terminate(reason, "test");
            } else {
                guest.respond(request.id, 200, "");
            }
        }),
        |_| {},
    );
    for _ in 0..20 {
        let post = request(Method::POST, "/crash", full("x"));
        let error = site.instance.fetch(post).await.unwrap_err();
        assert!(matches!(error, FetchError::Ended { .. }), "{error}");
    }
    assert_eq!(site.read(get("/")).await.0, 200);
    assert_eq!(site.instance.stats().crashes_in_a_row, 0);
}

#[tokio::test]
async fn fresh_mirror_stays_for_the_streams_and_promises_of_a_call() {
    let (received, mut ended) = mpsc::unbounded_channel();
    let site = fresh(
        guest::scripted(move |guest, message| {
            if let Received::Call(id, ..) = message {
                guest.control("call.pending", "[7]");
                guest.send(FromIsolate::Reply {
                    id,
                    result: Ok(Payload {
                        json: r#"["\u0000s5"]"#.to_owned(),
                        bytes: Vec::new(),
                        marked: true,
                    }),
                });
            } else if message.control("stream.pull").is_some() {
                guest.chunk(5, b"abc");
                guest.end_stream(5);
                guest.control("call.settled", "[7]");
                received.send(guest.number).unwrap();
            }
        }),
        |_| {},
    );
    let args = CallPayload::from(Payload::from_json("[]".to_owned()));
    let mut value = site.instance.call("stream", args).await.unwrap();
    assert_eq!(site.observed.count("ended"), 0);
    let stream = value.streams.pop().unwrap();
    assert_eq!(stream.collect().await.unwrap().to_bytes(), "abc");
    let number = ended.recv().await.unwrap();
    let ended = format!("ended {number} served");
    site.observed.wait(&ended).await;
    at_rest(&site, 1).await;
}

#[tokio::test]
async fn fresh_mirror_serves_its_websocket_to_the_end_and_is_notified_of_it() {
    let (received, mut closed) = mpsc::unbounded_channel();
    let site = fresh(
        guest::scripted(move |guest, message| match &message {
            Received::Request(request) => guest.control(
                "http.response",
                format!("[{},101,[],null,1,false]", request.id),
            ),
            Received::Control(name, data) if name == "socket.message" => {
                guest.control_with("socket.message", data.clone());
            }
            Received::Control(name, data) if name == "socket.close" => {
                let close: Value = serde_json::from_str(&data.json).unwrap();
                received
                    .send((guest.number, close["code"].clone()))
                    .unwrap();
            }
            _ => {}
        }),
        |_| {},
    );
    let response = (site.instance.fetch(from_client(get("/"), true)).await).unwrap();
    let upgrade = response.extensions().get::<Upgrade>().unwrap().take();
    let mut socket = upgrade.unwrap();
    drop(response);
    let text = SocketMessage::Text("once more".into());
    for _ in 0..3 {
        socket.to_guest.send(text.clone()).await.unwrap();
        assert_eq!(socket.from_guest.recv().await.unwrap(), text);
    }
    let close = SocketMessage::Close {
        code: 1000,
        reason: String::new(),
    };
    socket.to_guest.send(close).await.unwrap();
    let (number, code) = closed.recv().await.unwrap();
    assert_eq!(code, 1000);
    let ended = format!("ended {number} served");
    site.observed.wait(&ended).await;
}

/// A guest may announce promises of calls as often as it likes.
#[tokio::test]
async fn fresh_hostile_guest_cannot_stay_by_promises_of_calls() {
    let site = fresh(
        serving(|guest: &Guest, request| {
            for n in 0..100 {
                guest.control("call.pending", format!("[{n}]"));
            }
            guest.respond(request.id, 200, "");
        }),
        |options| options.limits.wait_until = Duration::from_millis(20),
    );
    assert_eq!(site.read(get("/")).await.0, 200);
    site.observed.wait(" served ").await;
}
