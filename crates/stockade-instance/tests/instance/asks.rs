//! What guests ask of their host.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use stockade_capability::{CallContext, CallPayload, Capability, Owner, Reply};
use stockade_http::{Body, Client, UpstreamSocket};
use stockade_instance::{InstanceOptions, Services};
use stockade_protocol::{GuestError, Payload};
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received};
use crate::site::{Site, from_client, full, get, piecewise, request};

/// Answers with what it was asked.
struct Mirroring {
    /// Is notified that a fetch without end has begun, and that it was dropped.
    dropped: mpsc::UnboundedSender<()>,
}

struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn describe(
    request: Request<Body>,
    from: String,
) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
    Box::pin(async move {
        let (head, body) = request.into_parts();
        let text = body
            .collect()
            .await
            .map_err(|error| GuestError::new(error.to_string()))?;
        let text = String::from_utf8_lossy(&text.to_bytes()).into_owned();
        if let Some(client) = head.extensions.get::<Client>() {
            let said = format!(
                "{} {} {}",
                client.request_id, client.address, client.upgrade
            );
            return Ok(Response::new(full(said)));
        }
        let a = head
            .headers
            .get("a")
            .map_or("", |value| value.to_str().unwrap());
        let said = format!("{from} {} {} a={a} {text}", head.method, head.uri);
        Ok(Response::builder()
            .status(203)
            .header("x-b", "1")
            .header("x-b", "2")
            .body(full(said))
            .unwrap())
    })
}

impl Services for Mirroring {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        match request.uri().path() {
            "/never" => {
                let _ = self.dropped.send(());
                let dropped = OnDrop(self.dropped.clone());
                Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(dropped);
                    unreachable!()
                })
            }
            "/broken" => Box::pin(async { panic!("an error of Stockade's own") }),
            "/refused" => Box::pin(std::future::ready(Err(GuestError::new(
                "refused by rule 3",
            )))),
            "/unread" => {
                let (sender, body) = piecewise();
                let dropped = self.dropped.clone();
                tokio::spawn(async move {
                    sender.closed().await;
                    let _ = dropped.send(());
                });
                Box::pin(std::future::ready(Ok(Response::new(body))))
            }
            "/large" => {
                let (sender, body) = piecewise();
                tokio::spawn(async move {
                    for _ in 0..3 {
                        let _ = sender.send(Ok(Bytes::from(vec![7; 100_000]))).await;
                    }
                });
                Box::pin(std::future::ready(Ok(Response::new(body))))
            }
            _ => describe(request, "fetch".to_owned()),
        }
    }

    fn websocket(
        &self,
        _: String,
        _: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        unreachable!()
    }

    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>> {
        (name != "NONE").then(|| Arc::new(Granted(name.to_owned())) as _)
    }

    fn ended(&self, _: &Owner) {}
}

/// Answers with what it was asked.
struct Granted(String);

impl Capability for Granted {
    fn fetch(
        &self,
        context: CallContext,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        assert_eq!(&*context.owner.instance, "site");
        describe(request, self.0.clone())
    }

    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        assert_eq!(&*context.owner.instance, "site");
        let called = format!("{}.{method}", self.0);
        Box::pin(async move {
            let mut sizes = Vec::new();
            for stream in arguments.streams {
                sizes.push(stream.collect().await.unwrap().to_bytes().len());
            }
            let json = arguments.payload.json;
            let said = format!("{called} {json} {sizes:?}");
            // One value and one stream.
            let mut reply = Reply::default();
            let stream = reply.stream(full("streamed"));
            reply.finish(&(said, stream))
        })
    }
}

/// A site that does `asks` when it gets a request, and reports every other message.
fn asking(
    asks: impl Fn(&Guest, &str) + Send + Sync + Clone + 'static,
) -> (
    Site,
    mpsc::UnboundedReceiver<Received>,
    mpsc::UnboundedReceiver<()>,
) {
    asking_with(asks, |_| {})
}

/// The same with other options.
fn asking_with(
    asks: impl Fn(&Guest, &str) + Send + Sync + Clone + 'static,
    change: impl FnOnce(&mut InstanceOptions),
) -> (
    Site,
    mpsc::UnboundedReceiver<Received>,
    mpsc::UnboundedReceiver<()>,
) {
    let (received, events) = mpsc::unbounded_channel();
    let (dropped, drops) = mpsc::unbounded_channel();
    let script = move |guest: &Guest, message: Received| match message {
        Received::Request(request) => {
            asks(guest, request.path());
            guest.respond(request.id, 200, "");
        }
        message => received.send(message).unwrap(),
    };
    let services = Arc::new(Mirroring { dropped });
    let site = Site::serving(guest::scripted(script), services, change);
    (site, events, drops)
}

async fn answer(
    events: &mut mpsc::UnboundedReceiver<Received>,
) -> (u64, Result<Payload, GuestError>) {
    match events.recv().await.unwrap() {
        Received::Answer(id, result) => (id, result),
        other => panic!("{other:?}"),
    }
}

fn body_text(value: &Value, data: &Payload) -> String {
    match guest::body(value, data) {
        guest::Body::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn guest_fetch_gives_status_headers_and_body() {
    let (site, mut events, _) = asking(|guest, _| {
        guest.ask(1, "fetch", r#"{"url":"http://b.example/x?y","method":"POST","headers":{"a":"1"},"body":"hi","redirect":"follow"}"#);
        guest.ask(2, "binding.fetch", r#"{"binding":"OTHER","url":"http://b/","method":"GET","headers":["a","2"],"body":null}"#);
    });
    site.read(get("/")).await;
    let mut texts = Vec::new();
    for _ in 0..2 {
        let (_, result) = answer(&mut events).await;
        let data = result.unwrap();
        let value: Value = serde_json::from_str(&data.json).unwrap();
        assert_eq!(value["status"], 203);
        assert_eq!(
            value["headers"],
            serde_json::json!([["x-b", "1"], ["x-b", "2"]])
        );
        texts.push(body_text(&value["body"], &data));
    }
    texts.sort();
    assert_eq!(
        texts,
        [
            "OTHER GET http://b/ a=2 ",
            "fetch POST http://b.example/x?y a=1 hi"
        ]
    );
}

#[tokio::test]
async fn request_that_is_passed_on_to_a_binding_keeps_its_client() {
    let (site, mut events, _) = asking(|guest, _| {
        let fetch = |method: &str, id: &str| {
            let json = format!(
                r#"{{"binding":"B","url":"http://b/","method":"GET","headers":["x-request-id","{id}"]}}"#
            );
            (method.to_owned(), json)
        };
        let asks = [
            fetch("binding.fetch", "req-1"),
            fetch("binding.fetch", "req-2"),
            fetch("fetch", "req-1"),
        ];
        for (number, (method, json)) in (1..).zip(asks) {
            guest.ask(number, &method, &json);
        }
    });
    site.read(from_client(get("/"), true)).await;
    let mut texts = [const { String::new() }; 3];
    for _ in 0..3 {
        let (id, result) = answer(&mut events).await;
        let data = result.unwrap();
        let value: Value = serde_json::from_str(&data.json).unwrap();
        texts[usize::try_from(id).unwrap() - 1] = body_text(&value["body"], &data);
    }
    // Of a request that is not its own a guest cannot say who asks, nor towards the outside.
    let expected = [
        "req-1 192.0.2.7:4711 false",
        "B GET http://b/ a= ",
        "fetch GET http://b/ a= ",
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn guest_fetch_that_is_refused_says_why() {
    let (site, mut events, _) = asking(|guest, _| {
        guest.ask(
            1,
            "fetch",
            r#"{"url":"http://b/refused","method":"GET","headers":{},"body":null}"#,
        );
        guest.ask(
            2,
            "fetch",
            r#"{"url":"ftp:b","method":"GET","headers":{},"body":null}"#,
        );
        guest.ask(3, "nonsense", "{}");
        guest.ask(4, "fetch", r#"{"url":"http://b/broken","method":"GET"}"#);
    });
    site.read(get("/")).await;
    let mut errors = Vec::new();
    for _ in 0..4 {
        let (id, result) = answer(&mut events).await;
        errors.push((id, result.unwrap_err().message));
    }
    errors.sort();
    assert_eq!(errors[0].1, "refused by rule 3");
    assert!(errors[1].1.contains("URL"), "{errors:?}");
    assert!(
        errors[2]
            .1
            .contains("no handler for the request 'nonsense'"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn guest_fetch_that_is_cancelled_is_dropped() {
    let (site, mut events, mut drops) = asking(|guest, path| {
        if path == "/cancel" {
            guest.control("request.cancel", r#"{"id":1}"#);
        } else {
            never(guest);
        }
    });
    site.read(get("/")).await;
    drops.recv().await.unwrap();
    site.read(get("/cancel")).await;
    drops.recv().await.unwrap();
    // The guest's number of open requests goes down by an answer.
    assert!(answer(&mut events).await.1.is_err());
    assert_eq!(site.instance.stats().mirrors.len(), 1);
}

#[tokio::test]
async fn guest_fetch_whose_body_is_never_read_is_let_go_of() {
    let (site, mut events, mut drops) = asking_with(
        |guest, _| {
            let fetch = r#"{"url":"http://b/unread","method":"GET","headers":{},"body":null}"#;
            guest.ask(1, "fetch", fetch);
        },
        |options| options.limits.stall = std::time::Duration::from_millis(30),
    );
    site.read(get("/")).await;
    assert!(answer(&mut events).await.1.is_ok());
    // With the body go its connection and its place.
    drops.recv().await.unwrap();
    assert_eq!(site.instance.stats().mirrors.len(), 1);
}

#[tokio::test]
async fn guest_fetch_is_dropped_with_its_mirror() {
    let (site, _events, mut drops) = asking(|guest, _| never(guest));
    site.read(get("/")).await;
    drops.recv().await.unwrap();
    drop(site);
    drops.recv().await.unwrap();
}

fn never(guest: &Guest) {
    let fetch = r#"{"url":"http://b/never","method":"GET","headers":{},"body":null}"#;
    guest.ask(1, "fetch", fetch);
}

#[tokio::test]
async fn guest_fetch_of_a_large_body_is_a_stream() {
    let (site, mut events, _) = asking(|guest, _| {
        guest.ask(
            1,
            "fetch",
            r#"{"url":"http://b/large","method":"GET","headers":{},"body":null}"#,
        );
    });
    site.read(get("/")).await;
    let (_, result) = answer(&mut events).await;
    let data = result.unwrap();
    let value: Value = serde_json::from_str(&data.json).unwrap();
    assert!(
        matches!(guest::body(&value["body"], &data), guest::Body::Stream(_)),
        "{value}"
    );
}

#[tokio::test]
async fn guest_call_of_a_binding_carries_values_and_streams() {
    let (site, mut events, _) = asking(|guest, _| {
        guest.send(stockade_protocol::FromIsolate::Request {
            id: 4,
            method: "binding.call".to_owned(),
            data: Payload {
                json: r#"{"binding":"FILES","method":"write","args":["name","\u0000s31"]}"#
                    .to_owned(),
                bytes: Vec::new(),
                marked: true,
            },
        });
    });
    site.read(get("/")).await;
    // The service reads the stream: the guest is asked for it.
    let pull = events.recv().await.unwrap().control("stream.pull").unwrap();
    assert_eq!(pull["id"], 31);
    drop(site);
}

/// A call of `STATE.put` with these arguments and one binary part.
fn put(guest: &Guest, id: u64, args: &str) {
    guest.send(stockade_protocol::FromIsolate::Request {
        id,
        method: "binding.call".to_owned(),
        data: Payload {
            json: format!(r#"{{"binding":"STATE","method":"put","args":{args}}}"#),
            bytes: vec![vec![1]],
            marked: true,
        },
    });
}

#[tokio::test]
async fn guest_call_with_data_that_guests_make_is_no_breach() {
    let (site, mut events, _) = asking(|guest, _| {
        put(guest, 1, r#"[{"key":"a\ud800","value":"\u0000b0"}]"#);
        let deep = format!(r#"{}"\u0000b0"{}"#, "[".repeat(5000), "]".repeat(5000));
        put(guest, 2, &deep);
        let name = r#"{"binding":"STATE","method":"a\udfff","args":[]}"#;
        guest.ask(3, "binding.call", name);
        put(guest, 4, r#"[{"key":"a","value":"\u0000b0"}]"#);
    });
    site.read(get("/")).await;
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let (id, result) = answer(&mut events).await;
        answers.insert(id, result);
    }
    let passed = answers[&1].as_ref().unwrap();
    assert!(passed.json.contains(r"a\\ud800"), "{}", passed.json);
    let refused = answers[&2].as_ref().unwrap_err();
    assert!(refused.message.contains("deep"), "{refused}");
    let refused = answers[&3].as_ref().unwrap_err();
    assert!(refused.message.contains("cannot be read"), "{refused}");
    assert!(answers[&4].is_ok());
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn guest_call_of_what_is_not_granted_is_refused() {
    let (site, mut events, _) = asking(|guest, _| {
        let call = r#"{"binding":"NONE","method":"get","args":[]}"#;
        guest.ask(1, "binding.call", call);
        let fetch = r#"{"binding":"NONE","url":"http://b/","method":"GET"}"#;
        guest.ask(2, "binding.fetch", fetch);
    });
    site.read(get("/")).await;
    for _ in 0..2 {
        let refused = answer(&mut events).await.1.unwrap_err();
        assert_eq!(refused.message, "there is no binding \"NONE\"");
    }
}

/// What happens to a capability.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Called(Owner),
    Dropped(Owner),
    Ended(Owner),
}

/// Sees what happens, and never answers a call.
#[derive(Clone)]
struct Seeing(mpsc::UnboundedSender<Seen>);

impl Capability for Seeing {
    fn call(
        &self,
        context: CallContext,
        _: &str,
        _: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        struct Call(Owner, mpsc::UnboundedSender<Seen>);
        impl Drop for Call {
            fn drop(&mut self) {
                let _ = self.1.send(Seen::Dropped(self.0.clone()));
            }
        }
        let _ = self.0.send(Seen::Called(context.owner.clone()));
        let call = Call(context.owner, self.0.clone());
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(call);
            unreachable!()
        })
    }
}

impl Services for Seeing {
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

    fn capability(&self, _: &str) -> Option<Arc<dyn Capability>> {
        Some(Arc::new(self.clone()))
    }

    fn ended(&self, owner: &Owner) {
        let _ = self.0.send(Seen::Ended(owner.clone()));
    }
}

#[tokio::test]
async fn mirror_that_ends_in_a_call_is_ended_for_capabilities_once_and_last() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let script = |guest: &Guest, message: Received| {
        let Received::Request(request) = message else {
            return;
        };
        if request.path() == "/end" {
            let reason = stockade_supervisor::TerminateReason::CpuLimit;
            return guest.context.terminate(reason, "test");
        }
        for id in 1..=2 {
            guest.ask(
                id,
                "binding.call",
                r#"{"binding":"A","method":"m","args":[]}"#,
            );
        }
        guest.respond(request.id, 200, "");
    };
    let site = Site::serving(guest::scripted(script), Arc::new(Seeing(sender)), |_| {});
    let mut owners = Vec::new();
    for _ in 0..2 {
        site.read(get("/")).await;
        let Some(Seen::Called(owner)) = seen.recv().await else {
            panic!("a call");
        };
        let same = |seen: fn(Owner) -> Seen| Some(seen(owner.clone()));
        assert_eq!(seen.recv().await, same(Seen::Called));
        // A request that another mirror would get again ends that one, too.
        let end = request(Method::POST, "/end", full(""));
        assert!(site.instance.fetch(end).await.is_err());
        assert_eq!(seen.recv().await, same(Seen::Dropped));
        assert_eq!(seen.recv().await, same(Seen::Dropped));
        assert_eq!(seen.recv().await, same(Seen::Ended));
        owners.push(owner);
    }
    assert_ne!(owners[0], owners[1]);
}
