//! WebSockets of clients, and those that guests open.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde_json::Value;
use stockade_capability::{Capability, Owner};
use stockade_http::{Body, GuestSocket, SocketMessage, Upgrade, UpstreamSocket};
use stockade_instance::{FetchError, Services};
use stockade_protocol::{FromIsolate, GuestError, Payload};
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received};
use crate::site::{Site, from_client, get};

fn accept(guest: &Guest, id: u64, socket: u64) {
    guest.control(
        "http.response",
        format!("[{id},101,[\"sec-websocket-protocol\",\"chat\"],null,{socket},false]"),
    );
}

async fn open(site: &Site) -> GuestSocket {
    let response = site
        .instance
        .fetch(from_client(get("/"), true))
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    response
        .extensions()
        .get::<Upgrade>()
        .unwrap()
        .take()
        .unwrap()
}

/// Accepts sockets and echoes what they say.
fn echo() -> impl Fn(&Guest, Received) + Send + Sync + Clone + 'static {
    |guest, received| match &received {
        Received::Request(request) => accept(guest, request.id, request.id + 100),
        Received::Control(name, data) if name == "socket.message" => {
            let id = serde_json::from_str::<Value>(&data.json).unwrap()["id"].clone();
            guest.control_with("socket.message", data.clone());
            guest.control("socket.credit", format!("{{\"id\":{id},\"n\":1}}"));
        }
        _ => {}
    }
}

#[tokio::test]
async fn socket_carries_text_and_bytes_both_ways() {
    let site = Site::new(guest::scripted(echo()));
    let mut socket = open(&site).await;
    assert_eq!(site.instance.stats().mirrors[0].sockets, 1);
    // More than the credit of either side.
    for n in 0..300 {
        let text = SocketMessage::Text(format!("message {n} é"));
        socket.to_guest.send(text.clone()).await.unwrap();
        assert_eq!(socket.from_guest.recv().await.unwrap(), text);
    }
    let bytes = SocketMessage::Binary(vec![0, 255].into());
    socket.to_guest.send(bytes.clone()).await.unwrap();
    assert_eq!(socket.from_guest.recv().await.unwrap(), bytes);
    assert_eq!(site.instance.stats().in_flight, 0, "a socket is no request");
}

#[tokio::test]
async fn socket_closed_by_either_side_is_closed_on_the_other() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| {
        if let Some(close) = message.control("socket.close") {
            received.send(close).unwrap();
        } else if message.control("socket.message").is_some() {
            guest.control("socket.close", r#"{"id":5,"code":4001,"reason":"bye"}"#);
        } else if let Received::Request(request) = message {
            accept(guest, request.id, 5);
        }
    }));
    let mut socket = open(&site).await;
    socket
        .to_guest
        .send(SocketMessage::Text("close".into()))
        .await
        .unwrap();
    let close = SocketMessage::Close {
        code: 4001,
        reason: "bye".to_owned(),
    };
    assert_eq!(socket.from_guest.recv().await.unwrap(), close);
    assert_eq!(socket.from_guest.recv().await, None);
    // The guest gets the client's answer, and not what the client said before it.
    for message in [SocketMessage::Text("late".into()), close] {
        socket.to_guest.send(message).await.unwrap();
    }
    let received = events.recv().await.unwrap();
    assert_eq!(
        (&received["code"], &received["reason"]),
        (&4001.into(), &"bye".into())
    );
    // The guest may use the number again.
    let socket = open(&site).await;
    let close = SocketMessage::Close {
        code: 1000,
        reason: "done".to_owned(),
    };
    socket.to_guest.send(close).await.unwrap();
    let received = events.recv().await.unwrap();
    assert_eq!(
        (&received["code"], &received["reason"]),
        (&1000.into(), &"done".into())
    );
    let socket = open(&site).await;
    drop(socket);
    assert_eq!(events.recv().await.unwrap()["code"], 1006);
    // A client that answers nothing and goes away.
    let mut socket = open(&site).await;
    socket
        .to_guest
        .send(SocketMessage::Text("close".into()))
        .await
        .unwrap();
    assert!(matches!(
        socket.from_guest.recv().await,
        Some(SocketMessage::Close { code: 4001, .. })
    ));
    assert_eq!(site.instance.stats().mirrors[0].sockets, 1);
    drop(socket);
    assert_eq!(events.recv().await.unwrap()["code"], 1006);
    assert_eq!(site.instance.stats().mirrors[0].sockets, 0);
}

#[tokio::test]
async fn socket_that_the_guest_has_closed_takes_no_more_of_it() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| {
        if let Some(close) = message.control("socket.close") {
            received.send(close).unwrap();
        } else if let Received::Request(request) = message {
            accept(guest, request.id, 5);
            guest.control("socket.close", r#"{"id":5}"#);
            // Late or forged, and no breach: the socket was there a moment ago.
            guest.control("socket.message", r#"{"id":5,"data":"more"}"#);
            guest.control("socket.close", r#"{"id":5,"code":4000}"#);
        }
    }));
    let mut socket = open(&site).await;
    let close = SocketMessage::Close {
        code: 1005,
        reason: String::new(),
    };
    assert_eq!(socket.from_guest.recv().await, Some(close.clone()));
    assert_eq!(socket.from_guest.recv().await, None);
    socket.to_guest.send(close).await.unwrap();
    assert_eq!(events.recv().await.unwrap()["code"], 1005);
    assert_eq!(site.observed.count("misbehaved"), 0);
}

#[tokio::test]
async fn socket_message_over_the_limit_closes_with_1009() {
    let site = Site::with(
        guest::scripted(|guest, message| {
            if let Some(value) = message.control("socket.message") {
                let long = "x".repeat(200);
                guest.control(
                    "socket.message",
                    format!("{{\"id\":{},\"data\":\"{long}\"}}", value["id"]),
                );
            } else if let Received::Request(request) = message {
                accept(guest, request.id, request.id);
            }
        }),
        |options| options.limits.socket_message = 100,
    );
    let mut socket = open(&site).await;
    socket
        .to_guest
        .send(SocketMessage::Text("now".into()))
        .await
        .unwrap();
    let closed = socket.from_guest.recv().await.unwrap();
    assert!(
        matches!(closed, SocketMessage::Close { code: 1009, .. }),
        "{closed:?}"
    );
}

#[tokio::test]
async fn socket_that_the_client_did_not_ask_for_is_502_and_closed() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| {
        if message.control("socket.close").is_some() {
            received.send(()).unwrap();
        } else if let Received::Request(request) = message {
            accept(guest, request.id, 1);
        }
    }));
    let error = site.get("/").await.unwrap_err();
    assert!(matches!(error, FetchError::BadResponse { .. }), "{error}");
    events.recv().await.unwrap();
    assert_eq!(site.instance.stats().mirrors[0].sockets, 0);
}

#[tokio::test]
async fn sockets_beyond_the_limit_are_refused() {
    let site = Site::with(guest::scripted(echo()), |options| {
        options.limits.sockets = 1
    });
    let first = open(&site).await;
    let second = site.instance.fetch(from_client(get("/"), true)).await;
    assert!(matches!(second, Err(FetchError::BadResponse { .. })));
    drop(first);
    while site.instance.stats().mirrors[0].sockets > 0 {
        tokio::task::yield_now().await;
    }
    drop(open(&site).await);
}

#[tokio::test]
async fn socket_ends_with_its_mirror() {
    for (replaced, wanted) in [(false, 1001), (true, 1012)] {
        let site = Site::new(guest::scripted(echo()));
        let mut socket = open(&site).await;
        let drained = if replaced {
            site.instance.replaced(std::time::Duration::ZERO).await
        } else {
            site.instance.drain(std::time::Duration::ZERO).await
        };
        assert_eq!(drained.sockets_cut, 1);
        let last = socket.from_guest.recv().await;
        assert!(
            matches!(last, Some(SocketMessage::Close { code, .. }) if code == wanted),
            "{last:?}"
        );
        assert_eq!(socket.from_guest.recv().await, None);
    }
}

/// Connects guests to a server that echoes, unless the URL says otherwise.
struct Echo;

impl Services for Echo {
    fn fetch(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        unreachable!()
    }

    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        Box::pin(async move {
            if url.contains("refused") {
                return Err(GuestError::new("refused by rule 7"));
            }
            let (to_upstream, mut from_guest) = mpsc::channel(8);
            let (to_guest, from_upstream) = mpsc::channel(8);
            tokio::spawn(async move {
                while let Some(message) = from_guest.recv().await {
                    if to_guest.send(message).await.is_err() {
                        return;
                    }
                }
            });
            Ok(UpstreamSocket {
                protocol: protocols.first().cloned(),
                to_upstream,
                from_upstream,
            })
        })
    }

    fn capability(&self, _: &str) -> Option<Arc<dyn Capability>> {
        None
    }

    fn ended(&self, _: &Owner) {}
}

fn say(guest: &Guest, name: &str, json: &str) {
    guest.send(FromIsolate::Event {
        name: name.to_owned(),
        data: Payload::from_json(json.to_owned()),
    });
}

#[tokio::test]
async fn guest_opens_a_socket_and_talks() {
    let (received, mut events) = mpsc::unbounded_channel();
    let script = move |guest: &Guest, message: Received| match message {
        Received::Request(request) => {
            say(
                guest,
                "ws.open",
                r#"{"conn_id":1,"url":"wss://a.example/","protocols":["p"]}"#,
            );
            say(
                guest,
                "ws.open",
                r#"{"conn_id":2,"url":"wss://refused.example/","protocols":[]}"#,
            );
            guest.respond(request.id, 200, "");
        }
        Received::Event(name, data) => {
            assert_eq!(name, "__ws_event");
            let value: Value = serde_json::from_str(&data.json).unwrap();
            if value["conn_id"] == 1 {
                match value["event_type"].as_str().unwrap() {
                    "open" => say(guest, "ws.send", r#"{"conn_id":1,"data":"hello"}"#),
                    "message" => {
                        say(
                            guest,
                            "ws.close",
                            r#"{"conn_id":1,"code":1000,"reason":"done"}"#,
                        );
                    }
                    _ => {}
                }
            }
            received.send(value).unwrap();
        }
        _ => {}
    };
    let site = Site::serving(guest::scripted(script), Arc::new(Echo), |_| {});
    site.read(get("/")).await;
    let mut of = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        let event = events.recv().await.unwrap();
        let index = event["conn_id"].as_u64().unwrap() as usize - 1;
        of[index].push(format!("{} {}", event["event_type"], event["data"]));
    }
    assert_eq!(of[0][0], r#""open" {"protocol":"p"}"#);
    assert_eq!(of[0][1], r#""message" "hello""#);
    assert!(
        of[0][2].starts_with(r#""close""#) && of[0][2].contains("1000"),
        "{}",
        of[0][2]
    );
    assert_eq!(of[1], [r#""error" {"message":"refused by rule 7"}"#]);
}
