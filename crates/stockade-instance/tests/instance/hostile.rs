//! Guests whose runtime was taken over: what they say is refused, and harms them alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use stockade_capability::{CallContext, CallPayload, Capability, Owner};
use stockade_http::{Body, UpstreamSocket};
use stockade_instance::{FetchError, Services};
use stockade_protocol::{FromIsolate, GuestError, Payload};
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received, serving};
use crate::site::{Site, from_client, full, get, request, text};

/// A site whose first guest does `evil` with each request; the others are honest.
fn evil(evil: impl Fn(&Guest, u64) + Send + Sync + Clone + 'static) -> Site {
    Site::new(serving(move |guest, request| {
        if guest.number == 0 {
            evil(guest, request.id);
        } else {
            guest.respond(request.id, 200, "honest");
        }
    }))
}

/// The first guest is ended for what it does, and its request answered by the second.
async fn is_ended(site: &Site, why: &str) {
    let response = site.read(get("/")).await;
    assert_eq!(response.1, "honest");
    let line = site.observed.wait("misbehaved 0").await;
    assert!(line.contains(why), "{line}");
    let line = site.observed.wait("ended 0").await;
    assert!(line.contains("misbehaved"), "{line}");
}

#[tokio::test]
async fn guest_that_sends_no_json_is_ended() {
    for bad in ["", "{", "[1", "null", "\"\\ud800", "[[[[[[[[[["] {
        is_ended(
            &evil(move |guest, _| guest.control("http.response", bad)),
            "http.response",
        )
        .await;
    }
    is_ended(
        &evil(|guest, _| guest.control("http.failed", "[]")),
        "http.failed",
    )
    .await;
    is_ended(
        &evil(|guest, _| guest.control("stream.chunk", "{}")),
        "stream.chunk",
    )
    .await;
    is_ended(
        &evil(|guest, _| guest.control("socket.credit", "7")),
        "socket.credit",
    )
    .await;
    let deep = "[".repeat(100_000);
    is_ended(
        &evil(move |guest, _| guest.control("http.response", &deep)),
        "http.response",
    )
    .await;
}

#[tokio::test]
async fn guest_that_answers_a_request_it_does_not_have_is_ended() {
    let site = evil(|guest, id| guest.respond(id + 1000, 200, "forged"));
    is_ended(&site, "which it does not have").await;
}

#[tokio::test]
async fn guest_that_answers_twice_is_ended_and_the_first_answer_stands() {
    let site = evil(|guest, id| {
        guest.respond(id, 200, "first");
        guest.respond(id, 200, "second");
    });
    let (_, body) = site.read(get("/")).await;
    assert_eq!(body, "first");
    site.observed.wait("misbehaved 0").await;
    assert_eq!(site.read(get("/")).await.1, "honest");
}

#[tokio::test]
async fn guest_that_answers_a_request_as_a_cron_is_ended() {
    let site = evil(|guest, id| guest.control("cron.done", format!("[{id},null]")));
    let error = site.get("/").await.unwrap_err();
    assert!(matches!(error, FetchError::Threw(_)), "{error}");
    site.observed.wait("misbehaved 0").await;
}

#[tokio::test]
async fn guest_that_names_parts_there_are_not_is_ended() {
    let site = evil(|guest, id| {
        guest.control_marked(
            "http.response",
            format!("[{id},200,[],\"\\u0000b5\"]"),
            vec![],
        );
    });
    is_ended(&site, "part 5").await;
}

#[tokio::test]
async fn guest_that_hands_out_one_stream_twice_is_ended() {
    let site = Site::new(serving(|guest, request| {
        if guest.number == 0 {
            guest.respond_stream(request.id, "[]", 1);
        } else {
            guest.respond(request.id, 200, "honest");
        }
    }));
    let first = site.get("/").await.unwrap();
    assert_eq!(site.read(get("/")).await.1, "honest");
    let line = site.observed.wait("misbehaved 0").await;
    assert!(line.contains("handed out twice"), "{line}");
    let error = text(first).await.unwrap_err();
    assert!(error.to_string().contains("guest ended"), "{error}");
}

#[tokio::test]
async fn guest_that_sends_unexpected_chunks_is_ended() {
    let site = evil(|guest, id| {
        guest.respond_stream(id, "[]", 1);
        for _ in 0..10_000 {
            guest.chunk(1, &[0; 10_000]);
        }
    });
    let response = site.get("/").await.unwrap();
    assert!(text(response).await.is_err());
    let line = site.observed.wait("misbehaved 0").await;
    assert!(line.contains("not requested"), "{line}");
}

#[tokio::test]
async fn guest_that_sends_more_socket_messages_than_it_may_is_ended() {
    let site = evil(|guest, id| {
        guest.control("http.response", format!("[{id},101,[],null,1]"));
        for _ in 0..1000 {
            guest.control("socket.message", r#"{"id":1,"data":"x"}"#);
        }
    });
    // The request itself may be answered first; its socket is held, for messages to a closed one are late.
    let _held = site.instance.fetch(from_client(get("/"), true)).await;
    let line = site.observed.wait("misbehaved 0").await;
    assert!(line.contains("more socket messages"), "{line}");
}

#[tokio::test]
async fn guest_that_talks_about_what_is_not_there_is_ignored() {
    let site = Site::new(serving(|guest, request| {
        for name in [
            "stream.chunk",
            "stream.end",
            "stream.error",
            "stream.pull",
            "stream.cancel",
            "socket.message",
            "socket.close",
            "socket.credit",
            "request.cancel",
        ] {
            guest.control(
                name,
                r#"{"id":99,"n":1e3,"data":"x","reason":"y","code":1}"#.replace("1e3", "1000"),
            );
        }
        guest.control("http.settled", "[4711]");
        guest.control("new.message", "{}");
        for name in ["ws.send", "ws.close"] {
            guest.send(FromIsolate::Event {
                name: name.to_owned(),
                data: Payload::from_json(r#"{"conn_id":5,"data":"x"}"#.to_owned()),
            });
        }
        guest.respond(request.id, 200, "fine");
    }));
    assert_eq!(site.read(get("/")).await.1, "fine");
    assert_eq!(site.read(get("/")).await.1, "fine");
    assert_eq!(
        site.observed.count("misbehaved"),
        0,
        "{:#?}",
        site.observed.lines()
    );
}

#[tokio::test]
async fn guest_with_giant_headers_gets_502_and_lives() {
    let site = Site::new(serving(|guest, request| {
        let headers = match request.path() {
            "/many" => vec![r#""a","1""#; 100_000].join(","),
            "/long" => format!("\"a\",\"{}\"", "x".repeat(1 << 20)),
            _ => String::new(),
        };
        guest.control(
            "http.response",
            format!("[{},200,[{headers}],\"fine\"]", request.id),
        );
    }));
    for path in ["/many", "/long"] {
        let error = site.get(path).await.unwrap_err();
        assert!(
            matches!(error, FetchError::BadResponse { .. }),
            "{path}: {error}"
        );
    }
    assert_eq!(site.read(get("/")).await.1, "fine");
    assert_eq!(site.observed.count("started"), 1);
}

#[tokio::test]
async fn guest_that_lets_much_wait_has_its_responses_refused() {
    let site = Site::with(
        serving(|guest, request| {
            let id = request.id;
            guest.control_marked(
                "http.response",
                format!("[{id},200,[],\"\\u0000b0\"]"),
                vec![vec![0; 400_000]],
            );
        }),
        |options| options.limits.buffered = 1_000_000,
    );
    let first = site.get("/").await.unwrap();
    let _second = site.get("/").await.unwrap();
    let error = site.get("/").await.unwrap_err();
    assert!(error.to_string().contains("1000000 bytes"), "{error}");
    assert_eq!(
        first.into_body().collect().await.unwrap().to_bytes().len(),
        400_000
    );
    site.get("/").await.unwrap();
}

#[tokio::test]
async fn guest_that_asks_with_much_while_much_waits_is_refused() {
    let (received, mut answers) = mpsc::unbounded_channel();
    let site = Site::serving(
        guest::scripted(move |guest, message| match message {
            Received::Request(request) => {
                let body = "x".repeat(400_000);
                for id in 1..=50 {
                    let json = format!(
                        r#"{{"url":"http://a/","method":"PUT","headers":[],"body":"{body}"}}"#
                    );
                    guest.ask(id, "fetch", json);
                }
                guest.respond(request.id, 200, "asked");
            }
            Received::Answer(_, result) => received.send(result.unwrap_err().message).unwrap(),
            _ => {}
        }),
        Arc::new(Silent(None)),
        |options| options.limits.buffered = 1_000_000,
    );
    assert_eq!(site.read(get("/")).await.1, "asked");
    for _ in 0..48 {
        let why = answers.recv().await.unwrap();
        assert!(why.contains("more than 1000000 bytes"), "{why}");
    }
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn guest_that_handles_nothing_has_large_answers_refused() {
    const CALLS: u64 = 50;
    let (received, mut answers) = mpsc::unbounded_channel();
    let (called, mut calls) = mpsc::unbounded_channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let waits = Arc::new(parking_lot::Mutex::new(waits));
    let site = Site::serving(
        guest::scripted(move |guest, message| match message {
            Received::Request(request) => {
                // Each is refused at once, and its answer waits for the guest.
                for id in 100..1000 {
                    guest.ask(id, "no such request", "{}");
                }
                let call = r#"{"binding":"LARGE","method":"get","args":[]}"#;
                for id in 1..=CALLS {
                    guest.ask(id, "binding.call", call);
                }
                waits.lock().recv().unwrap();
                guest.respond(request.id, 200, "asked");
            }
            Received::Answer(id, result) if id <= CALLS => received.send(result).unwrap(),
            _ => {}
        }),
        Arc::new(Silent(Some(Arc::new(Large(called))))),
        |options| options.limits.buffered = 1_000_000,
    );
    let response = site.read(get("/"));
    let let_go = async {
        for _ in 0..CALLS {
            calls.recv().await.unwrap();
        }
        go_on.send(()).unwrap();
    };
    assert_eq!(tokio::join!(response, let_go).0.1, "asked");
    let mut given = 0;
    for _ in 0..CALLS {
        match answers.recv().await.unwrap() {
            Ok(_) => given += 1,
            Err(error) => assert!(error.message.contains("1000000 bytes"), "{error:?}"),
        }
    }
    assert!((1..=2).contains(&given), "{given} answers were given");
    assert_eq!(site.observed.count("misbehaved"), 0);
}

/// Gives 400,000 bytes for each call, and says that it was called.
struct Large(mpsc::UnboundedSender<()>);

impl Capability for Large {
    fn call(
        &self,
        _: CallContext,
        _: &str,
        _: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let called = self.0.clone();
        Box::pin(async move {
            called.send(()).unwrap();
            let json = format!("\"{}\"", "x".repeat(400_000));
            Ok(Payload::from_json(json).into())
        })
    }
}

/// Has a capability, if any, and never answers a fetch.
struct Silent(Option<Arc<dyn Capability>>);

impl Services for Silent {
    fn fetch(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        Box::pin(std::future::pending())
    }

    fn websocket(
        &self,
        _: String,
        _: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        Box::pin(std::future::pending())
    }

    fn capability(&self, _: &str) -> Option<Arc<dyn Capability>> {
        self.0.clone()
    }

    fn ended(&self, _: &Owner) {}
}

#[tokio::test]
async fn guest_that_pulls_without_end_gets_no_more_than_there_is() {
    let (received, mut ended) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| match &message {
        Received::Request(request) => {
            for _ in 0..1000 {
                guest.control("stream.pull", "{\"id\":0,\"n\":18446744073709551615}");
            }
            let _ = request;
        }
        Received::Control(name, _) if name == "stream.end" => received.send(()).unwrap(),
        _ => {}
    }));
    let instance = site.instance.clone();
    let asking = tokio::spawn(async move {
        let post = request(http::Method::POST, "/", full(vec![1; 3_000_000]));
        instance.fetch(post).await
    });
    ended.recv().await.unwrap();
    asking.abort();
}

#[tokio::test]
async fn guest_that_floods_its_console_and_events_does_not_stop_others() {
    let flood = Site::new(serving(|guest, _| {
        loop {
            if guest
                .context
                .send(FromIsolate::Control {
                    name: "http.settled".to_owned(),
                    data: Payload::from_json("[1]".to_owned()),
                })
                .is_err()
            {
                return;
            }
        }
    }));
    let good = Site::new(serving(|guest, request| {
        guest.respond(request.id, 200, "good")
    }));
    let instance = flood.instance.clone();
    let flooding = tokio::spawn(async move { instance.fetch(get("/")).await });
    while flood.instance.stats().in_flight < 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        let answer = tokio::time::timeout(Duration::from_secs(60), good.read(get("/")));
        assert_eq!(answer.await.unwrap().1, "good");
    }
    flooding.abort();
}

#[tokio::test]
async fn guest_that_asks_before_it_is_ready_is_refused() {
    let (received, mut answers) = mpsc::unbounded_channel();
    let site = Site::new(guest::supervisor(move |guest| {
        guest.ask(1, "fetch", r#"{"url":"http://a/","method":"GET"}"#);
        let received = received.clone();
        Some(Box::new(move |guest, message| {
            if let Received::Answer(_, result) = message {
                received.send(result.unwrap_err().message).unwrap();
                guest.ready();
            }
        }))
    }));
    site.instance.ready().await.unwrap();
    assert!(answers.recv().await.unwrap().contains("in a handler"));
}

#[tokio::test]
async fn guest_texts_in_errors_are_bounded() {
    let site = Site::new(serving(|guest, request| {
        let long = "x".repeat(10 << 20);
        guest.control(
            "http.failed",
            format!("[{},\"{long}\",\"{long}\",\"{long}\"]", request.id),
        );
    }));
    let error = site.get("/").await.unwrap_err();
    assert!(error.to_string().len() < 100 << 10);
}
