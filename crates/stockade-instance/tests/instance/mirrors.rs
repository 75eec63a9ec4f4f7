//! Mirrors: several, failing, replaced, recycled.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use stockade_http::ServedBy;
use stockade_instance::{FetchError, MirrorState, Recycle, Scaling};
use stockade_limits::{ConsoleMode, IsolateOptions};
use stockade_protocol::{ConsoleLevel, FromIsolate};
use stockade_supervisor::TerminateReason;
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received, Request, serving, supervisor};
use crate::site::{Site, empty, full, get, piecewise, request};

fn crash(guest: &Guest) {
    guest
        .context
        .terminate(TerminateReason::MemoryLimit, "test");
}

/// Responds with its number; `/crash…` ends the first guest only.
fn numbered(guest: &Guest, request: Request) {
    if request.path().starts_with("/crash") && guest.number == 0 {
        crash(guest);
    } else {
        guest.respond(request.id, 200, &guest.number.to_string());
    }
}

#[tokio::test]
async fn mirrors_share_requests_least_busy_first() {
    let (received, mut asked) = mpsc::unbounded_channel();
    let site = Site::with(
        serving(move |guest, _| received.send(guest.number).unwrap()),
        |options| options.scaling = Scaling::Fixed(3),
    );
    site.observed.wait_for("started", 3).await;
    let mut running = Vec::new();
    for _ in 0..9 {
        let instance = site.instance.clone();
        running.push(tokio::spawn(async move { instance.fetch(get("/")).await }));
    }
    let mut counts = [0; 3];
    for _ in 0..9 {
        counts[asked.recv().await.unwrap() as usize] += 1;
    }
    assert_eq!(counts, [3, 3, 3]);
}

#[tokio::test]
async fn mirror_that_ends_is_replaced_and_its_get_answered_by_another() {
    let site = Site::new(serving(numbered));
    assert_eq!(site.read(get("/")).await.1, "0");
    let response = site.get("/crash").await.unwrap();
    let served = response.extensions().get::<ServedBy>().unwrap().clone();
    assert!(served.retried);
    assert_eq!(served.mirror, 1);
    let ended = site.observed.wait("ended 0").await;
    assert!(ended.contains("memory_limit_exceeded test"), "{ended}");
    assert_eq!(site.observed.count("retried 0"), 1);
}

#[tokio::test]
async fn mirror_that_ends_costs_a_post_502_and_a_put_is_given_to_another() {
    let site = Site::new(serving(numbered));
    let post = request(Method::POST, "/crash", full("x"));
    let error = site.instance.fetch(post).await.unwrap_err();
    assert!(matches!(error, FetchError::Ended { .. }), "{error}");
    assert_eq!(error.status(), 502);
    let site = Site::new(serving(numbered));
    let put = request(Method::PUT, "/crash", full("x"));
    assert_eq!(site.read(put).await.1, "1");
    let site = Site::new(serving(numbered));
    let (_sender, body) = piecewise();
    let put = request(Method::PUT, "/crash", body);
    let error = site.instance.fetch(put).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Ended { .. }),
        "a stream cannot be sent twice"
    );
}

#[tokio::test]
async fn request_that_ends_two_mirrors_is_502() {
    let site = Site::new(serving(|guest, _| crash(guest)));
    let error = site.get("/").await.unwrap_err();
    assert!(matches!(error, FetchError::Ended { .. }), "{error}");
    assert_eq!(site.observed.count("retried"), 1);
}

#[tokio::test]
async fn mirror_whose_code_fails_is_not_started_and_requests_fail_at_once() {
    let site = Site::new(supervisor(|guest| {
        guest.control(
            "serve.failed",
            r#"{"name":"SyntaxError","message":"unexpected token","stack":""}"#,
        );
        Some(Box::new(|_, _| {}))
    }));
    let error = site.instance.ready().await.unwrap_err();
    assert!(
        error.to_string().contains("SyntaxError: unexpected token"),
        "{error}"
    );
    let error = site.get("/").await.unwrap_err();
    assert!(matches!(error, FetchError::NotStarted { .. }), "{error}");
    assert_eq!(error.status(), 503);
    assert!(!error.public_message().contains("token"));
    // 50 ms, 100 ms, 200 ms.
    let third = site.observed.wait_for("start_failed", 3).await;
    assert!(third.contains(" 200 ms "), "{third}");
    assert_eq!(site.instance.stats().crashes_in_a_row, 3);
}

#[tokio::test]
async fn mirror_that_is_never_ready_is_given_up() {
    let site = Site::with(supervisor(|_| Some(Box::new(|_, _| {}))), |options| {
        options.limits.start = Duration::from_millis(20)
    });
    let error = site.instance.ready().await.unwrap_err();
    assert!(
        error.to_string().contains("not ready within 20 ms"),
        "{error}"
    );
}

#[tokio::test]
async fn mirror_that_breaks_down_at_its_start_is_tried_again() {
    let site = Site::new(supervisor(|guest| {
        if guest.number == 0 {
            return None;
        }
        guest.ready();
        Some(Box::new(|guest, received| {
            if let Received::Request(request) = received {
                guest.respond(request.id, 200, "up");
            }
        }))
    }));
    site.observed.wait("started 1").await;
    assert_eq!(site.read(get("/")).await.1, "up");
    assert!(
        site.observed.count("start_failed 0") == 1,
        "{:#?}",
        site.observed.lines()
    );
}

#[tokio::test]
async fn mirror_is_recycled_after_its_requests_without_losing_any() {
    let site = Arc::new(Site::with(
        serving(|guest, request| guest.respond(request.id, 200, &guest.number.to_string())),
        |options| {
            options.recycle.requests = Some(50);
            options.scaling = Scaling::Fixed(2);
        },
    ));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let site = Arc::clone(&site);
        clients.push(tokio::spawn(async move {
            for _ in 0..100 {
                let post = request(Method::POST, "/", full("x"));
                assert_eq!(site.read(post).await.0, 200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(
        site.observed.count("recycled_requests") >= 4,
        "{:#?}",
        site.observed.lines()
    );
    for line in site.observed.lines() {
        assert!(
            !line.starts_with("ended") || line.contains("in_flight=0"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn mirror_above_its_memory_or_age_is_recycled() {
    let site = Site::with(
        serving(|guest, request| {
            guest
                .context
                .note_memory(if guest.number == 0 { 100 << 20 } else { 1 });
            guest.respond(request.id, 200, &guest.number.to_string());
        }),
        |options| options.recycle.memory = Some(50 << 20),
    );
    assert_eq!(site.read(get("/")).await.1, "0");
    site.observed.wait("ended 0 recycled_memory").await;
    assert_eq!(site.read(get("/")).await.1, "1");
    let site = Site::with(serving(numbered), |options| {
        options.recycle = Recycle {
            age: Some(Duration::from_millis(10)),
            ..Recycle::default()
        };
    });
    site.observed.wait("ended 0 recycled_age").await;
    assert_ne!(site.read(get("/")).await.1, "0");
}

#[tokio::test]
async fn mirror_with_stuck_requests_is_replaced() {
    let site = Site::with(
        serving(|guest, request| {
            if guest.number > 0 {
                guest.respond(request.id, 200, "fresh");
            }
        }),
        |options| {
            // The second request has to be answered within it.
            options.limits.wall = Duration::from_millis(500);
            options.limits.abort_grace = Duration::from_millis(10);
            options.limits.concurrency = 1;
            options.limits.drain = Duration::from_millis(50);
        },
    );
    let error = site.get("/").await.unwrap_err();
    assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
    assert_eq!(site.read(get("/")).await.1, "fresh");
    site.observed.wait("ended 0 recycled_stuck").await;
}

#[tokio::test]
async fn mirror_waits_for_promises_before_it_is_recycled() {
    let (received, mut asked) = mpsc::unbounded_channel();
    let site = Site::with(
        guest::scripted(move |guest, message| {
            if let Received::Request(request) = message {
                if request.path() == "/pending" {
                    guest.control(
                        "http.response",
                        format!("[{},200,[],\"\",null,true]", request.id),
                    );
                    received.send(guest.number).unwrap();
                } else {
                    let id: u64 = request.path()[1..].parse().unwrap();
                    guest.control("http.settled", format!("[{id}]"));
                    guest.respond(request.id, 200, "");
                }
            }
        }),
        |options| options.recycle.requests = Some(1),
    );
    site.read(get("/pending")).await;
    assert_eq!(asked.recv().await.unwrap(), 0);
    site.observed.wait("started 1").await;
    let draining = |site: &Site| {
        let mirrors = site.instance.stats().mirrors;
        mirrors
            .iter()
            .any(|m| m.mirror == 0 && m.state == MirrorState::Draining)
    };
    while !draining(&site) {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.observed.count("ended 0"), 0);
    let drained = site.instance.drain(Duration::from_millis(20)).await;
    assert_eq!(drained.background_cut, 1);
}

#[tokio::test]
async fn drain_lets_requests_end_and_takes_no_more() {
    let site = Site::new(serving(|guest, request| {
        guest.respond_stream(request.id, "[]", request.id);
    }));
    let instance = site.instance.clone();
    let response = instance.fetch(get("/")).await.unwrap();
    let draining = tokio::spawn(async move { instance.drain(Duration::from_secs(60)).await });
    while !matches!(site.get("/").await, Err(FetchError::Draining)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.instance.stats().in_flight, 1);
    drop(response);
    let drained = draining.await.unwrap();
    assert_eq!(drained, stockade_instance::Drained::default());
    site.observed.wait("ended 0 drained").await;
    assert!(site.instance.stats().mirrors.is_empty());
}

#[tokio::test]
async fn drain_cuts_what_is_over_the_deadline() {
    let site = Site::new(serving(|_, _| {}));
    let instance = site.instance.clone();
    let asking = tokio::spawn(async move { instance.fetch(get("/")).await });
    while site.instance.stats().in_flight < 1 {
        tokio::task::yield_now().await;
    }
    let drained = site.instance.drain(Duration::from_millis(10)).await;
    assert_eq!(drained.requests_cut, 1);
    let error = asking.await.unwrap().unwrap_err();
    assert!(
        matches!(error, FetchError::Ended { .. } | FetchError::Draining),
        "{error}"
    );
}

#[tokio::test]
async fn instance_that_is_dropped_ends_its_mirrors() {
    let site = Site::new(serving(numbered));
    site.instance.ready().await.unwrap();
    let observed = Arc::clone(&site.observed);
    drop(site);
    observed.wait("ended 0").await;
}

#[tokio::test]
async fn crash_does_not_lose_those_who_wait_in_line() {
    let site = Arc::new(Site::with(
        serving(|guest, request| {
            if request.path() == "/crash" {
                crash(guest);
            } else if request.path() == "/ok" {
                guest.respond(request.id, 200, "ok");
            }
        }),
        |options| options.limits.concurrency = 1,
    ));
    site.instance.ready().await.unwrap();
    let mut waiting = Vec::new();
    let crashing = {
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            let post = request(Method::POST, "/crash", empty());
            site.instance.fetch(post).await.map(|_| ())
        })
    };
    for _ in 0..20 {
        let site = Arc::clone(&site);
        waiting.push(tokio::spawn(async move { site.read(get("/ok")).await }));
    }
    assert!(crashing.await.unwrap().is_err());
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().1, "ok");
    }
}

#[tokio::test]
async fn mirror_whose_task_breaks_down_is_given_up_and_its_requests_are_answered() {
    let site = Site::with(
        serving(|guest, request| {
            if guest.number == 0 {
                guest.send(FromIsolate::Console {
                    level: ConsoleLevel::Info,
                    text: "break down".to_owned(),
                });
            } else {
                guest.respond(request.id, 200, "another");
            }
        }),
        |options| {
            options.isolate = Arc::new(IsolateOptions {
                console: ConsoleMode::Event,
                ..IsolateOptions::default()
            });
        },
    );
    assert_eq!(site.read(get("/")).await.1, "another");
    let mirrors = site.instance.stats().mirrors;
    assert_eq!((mirrors.len(), mirrors[0].mirror), (1, 1));
    assert_eq!(
        site.observed
            .count("ended 0 crashed an error of Stockade's own"),
        1
    );
}

#[tokio::test]
async fn operator_starts_drains_restarts_and_kills_mirrors() {
    let site = Site::with(
        serving(|guest, request| guest.respond(request.id, 200, "here")),
        |options| options.scaling = Scaling::Fixed(1),
    );
    site.instance.ready().await.unwrap();
    let unknown = site.instance.kill_mirror(7);
    assert_eq!(unknown, Err(stockade_instance::MirrorError::Unknown(7)));
    assert_eq!(site.instance.start_mirror(), Ok(2));
    site.observed.wait("started 1").await;
    // It is replaced once its successor serves.
    site.instance.restart_mirror(1).unwrap();
    site.observed.wait("started 2").await;
    site.observed.wait("ended 1 restarted").await;
    // It ends at once, and another one is started.
    site.instance.kill_mirror(0).unwrap();
    site.observed.wait("ended 0 killed").await;
    site.observed.wait("started 3").await;
    // It is not replaced.
    site.instance.drain_mirror(2).unwrap();
    site.observed.wait("ended 2 scaled_down").await;
    assert_eq!(site.instance.stats().wanted, 1);
    site.get("/").await.unwrap();
    // With none left, the next request starts one.
    site.instance.drain_mirror(3).unwrap();
    site.observed.wait("ended 3 scaled_down").await;
    assert_eq!(site.instance.stats().wanted, 0);
    site.get("/").await.unwrap();
    site.observed.wait("started 4").await;
}
