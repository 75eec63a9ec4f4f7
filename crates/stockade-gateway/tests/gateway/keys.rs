//! API keys of clients: who is let in, what targets and records see, and what a revocation cuts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::header::AUTHORIZATION;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stockade_auth::{ApiKey, KeyFields, KeyLimits, Keys, NewKey, Pepper, Scope, Store};
use stockade_gateway::{KeyRule, Limits, Pattern, Refusal, Route};
use stockade_http::{Body, BoxError, Client, GuestSocket, PathPattern, SocketMessage, Upgrade};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::*;

/// A store of keys, and the same for checks.
pub(crate) struct KeyStore {
    _folder: TempDir,
    store: Store,
    keys: Keys,
}

impl KeyStore {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let pepper = Pepper::new(&[7; 32]).unwrap();
        Self {
            store: Store::open(&path, pepper.clone()).unwrap(),
            keys: Keys::open(&path, pepper).unwrap(),
            _folder: folder,
        }
    }

    pub(crate) async fn key(&mut self, scopes: &[&str]) -> NewKey {
        let fields = KeyFields {
            name: "a key".to_owned(),
            scopes: scopes
                .iter()
                .map(|one| Scope::parse(one).unwrap())
                .collect(),
            ..KeyFields::default()
        };
        let made = self.store.create(&fields, SystemTime::now()).unwrap();
        self.keys.refresh().await.unwrap();
        made
    }

    /// A key for reading, with limits of its own.
    pub(crate) async fn limited(&mut self, limits: KeyLimits) -> NewKey {
        let fields = KeyFields {
            name: "a limited key".to_owned(),
            scopes: vec![Scope::parse("read").unwrap()],
            limits,
            ..KeyFields::default()
        };
        let made = self.store.create(&fields, SystemTime::now()).unwrap();
        self.keys.refresh().await.unwrap();
        made
    }

    /// The next text of a key; the one before stays valid.
    pub(crate) async fn rotate(&mut self, key: &NewKey) -> NewKey {
        let hour = Duration::from_secs(3600);
        let made = self
            .store
            .rotate(key.record.id, hour, SystemTime::now())
            .unwrap();
        self.keys.refresh().await.unwrap();
        made
    }

    async fn revoke(&mut self, key: &NewKey) {
        self.store.revoke(key.record.id, SystemTime::now()).unwrap();
        self.keys.refresh().await.unwrap();
    }

    pub(crate) fn rule(&self) -> KeyRule {
        KeyRule {
            keys: Some(self.keys.clone()),
            tokens: None,
            certificates: None,
            failures: Arc::default(),
            instance: "shop".into(),
            header: Some(AUTHORIZATION),
            query: Some("api_key".to_owned()),
            cookie: None,
            scopes: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            open: vec![PathPattern::Under("/public".to_owned())],
        }
    }
}

async fn protected(rule: KeyRule, target: impl stockade_gateway::Target) -> Server {
    let mut route = Route::new("shop", vec![Pattern::any()], Arc::new(target));
    route.api_key = Some(Arc::new(rule));
    Server::start(listener(), table(vec![route]), Limits::default()).await
}

/// Echoes the request and what is known of its key.
async fn echo_key(request: Request<Body>) -> Response<Body> {
    let client = request.extensions().get::<Client>().unwrap();
    let known = client.api_key.as_deref().unwrap_or("none").to_owned();
    let echoed = echo(request).await.into_body().collect().await.unwrap();
    text([known.as_bytes(), b"\n", &echoed.to_bytes()].concat())
}

pub(crate) fn with(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n{headers}\r\n")
}

#[tokio::test]
async fn valid_key_is_let_in_and_neither_target_nor_record_has_it() {
    let mut store = KeyStore::new();
    let made = store.key(&["write"]).await;
    let key = made.key.reveal();
    let server = protected(store.rule(), echo_key).await;
    let mut client = server.connect().await;
    for (target, headers) in [
        (
            "/a?b=1".to_owned(),
            format!("Authorization: Bearer {key}\r\n"),
        ),
        (format!("/a?b=1&api_key={key}"), String::new()),
        (
            format!("/a?%61pi_key={}&b=1", key.replace('_', "%5f")),
            String::new(),
        ),
        (
            "/a?b=1".to_owned(),
            format!(
                "Authorization: bearer {key}\r\nX-Api-Key: {key}\r\nReferer: http://x/?api_key={key}\r\n"
            ),
        ),
    ] {
        for method in ["GET", "POST", "OPTIONS", "DELETE"] {
            let answer = client.ask(with(method, &target, &headers)).await;
            assert_eq!(answer.status, 200, "{method} {target}");
            let seen = answer.text();
            let id = made.record.id;
            assert!(seen.starts_with(&format!("{{\"id\":\"{id}\",\"name\":\"a key\",\"scopes\":[\"write\"],\"metadata\":{{}}}}\n")), "{seen}");
            assert!(seen.contains("http://a.example/a?b=1\n"), "{seen}");
            assert!(
                !seen.contains("sk_stockade") && !seen.contains(&key[12..]),
                "{seen}"
            );
        }
    }
    let recorded = server.log.until(|log| log.requests.len() == 16).await;
    for record in recorded.requests {
        assert_eq!(record.api_key, Some(made.record.id));
        assert!(!format!("{record:?}").contains(&key[12..]), "{record:?}");
    }
}

#[tokio::test]
async fn no_key_or_a_wrong_one_gets_401_by_each_method_and_path() {
    let mut store = KeyStore::new();
    let revoked = store.key(&["admin"]).await;
    store.revoke(&revoked).await;
    let (unknown, revoked) = (ApiKey::generate().unwrap(), revoked.key);
    let mut changed = revoked.reveal().to_owned();
    changed.pop();
    let server = protected(store.rule(), echo_key).await;
    // HEAD is sent on connections of its own: its response has no body.
    for path in [
        "/",
        "//",
        "/a",
        "/./a",
        "/%2e/a",
        "/public/../a",
        "/public/%2e%2e/a",
        "//public/../a",
        "/publicity",
        "/PUBLIC",
        "/x/..%2fpublic",
    ] {
        for method in ["GET", "POST", "OPTIONS", "PROPFIND"] {
            let answer = server.connect().await.ask(with(method, path, "")).await;
            assert!(
                matches!(answer.status, 401 | 400),
                "{method} {path}: {answer:?}"
            );
            if answer.status == 401 {
                assert_eq!(
                    answer.header("www-authenticate"),
                    Some("Bearer realm=\"shop\"")
                );
            }
        }
        let mut client = server.connect().await;
        client.send(with("HEAD", path, "")).await;
        let head = client.head().await;
        assert!(
            head.starts_with("HTTP/1.1 401") || head.starts_with("HTTP/1.1 400"),
            "{head}"
        );
    }
    for wrong in [
        unknown.reveal(),
        revoked.reveal(),
        &changed,
        &revoked.reveal().to_uppercase(),
        "",
        "a b",
        "null",
    ] {
        let headers = format!("authorization: Bearer {wrong}\r\naccept: application/json\r\n");
        let answer = server.connect().await.ask(with("GET", "/", &headers)).await;
        assert_eq!(answer.status, 401, "{wrong}");
        let challenge = "Bearer realm=\"shop\", error=\"invalid_token\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert!(
            answer.text().contains("\"status\":401"),
            "{}",
            answer.text()
        );
    }
    let headers = format!(
        "authorization: Bearer {}\r\nauthorization: Bearer {}\r\n",
        unknown.reveal(),
        unknown.reveal()
    );
    let answer = server.connect().await.ask(with("GET", "/", &headers)).await;
    assert_eq!(answer.status, 400);
    // The control: what is open needs no key, and a key there is taken out all the same.
    for path in ["/public", "/public/a", "//public//a", "/x/../public"] {
        let headers = format!("authorization: Bearer {}\r\n", unknown.reveal());
        let answer = server
            .connect()
            .await
            .ask(with("GET", path, &headers))
            .await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().starts_with("none\n") && !answer.text().contains("sk_stockade"));
    }
    let records = server.log.now().requests;
    assert!(
        records
            .iter()
            .all(|record| !format!("{record:?}").contains("sk_stockade_0"))
    );
}

#[tokio::test]
async fn scopes_decide_by_method_path_and_instance() {
    let mut store = KeyStore::new();
    let keys = [
        store.key(&["read"]).await,
        store.key(&["write"]).await,
        store.key(&["shop/admin", "reports"]).await,
        store.key(&["blog/admin"]).await,
    ];
    let mut rule = store.rule();
    let scope = |name| vec![Scope::parse_required(name).unwrap()];
    rule.methods = vec![(Method::DELETE, scope("admin"))];
    rule.paths = vec![(PathPattern::Under("/reports".to_owned()), scope("reports"))];
    let server = protected(rule, echo_key).await;
    for (method, path, allowed) in [
        ("GET", "/", [true, true, true, false]),
        ("POST", "/", [false, true, true, false]),
        ("PUT", "/", [false, true, true, false]),
        ("DELETE", "/", [false, false, true, false]),
        ("GET", "/reports/1", [false, false, true, false]),
        ("GET", "//reports/1", [false, false, true, false]),
        ("GET", "/%72eports", [false, false, true, false]),
    ] {
        for (key, allowed) in keys.iter().zip(allowed) {
            let headers = format!("authorization: Bearer {}\r\n", key.key.reveal());
            let answer = server
                .connect()
                .await
                .ask(with(method, path, &headers))
                .await;
            let status = if allowed { 200 } else { 403 };
            assert_eq!(
                answer.status, status,
                "{method} {path} {:?}",
                key.record.scopes
            );
            if !allowed {
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(
                    challenge.contains("error=\"insufficient_scope\", scope=\""),
                    "{challenge}"
                );
            }
        }
    }
    // An upgrade is no reading, though its method is GET.
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let headers = format!(
        "{upgrade}authorization: Bearer {}\r\n",
        keys[0].key.reveal()
    );
    let request = format!("GET / HTTP/1.1\r\nhost: a.example\r\n{headers}\r\n");
    assert_eq!(server.connect().await.ask(request).await.status, 403);
    let request = format!("GET / HTTP/1.1\r\nhost: a.example\r\n{upgrade}\r\n");
    assert_eq!(server.connect().await.ask(request).await.status, 401);
}

#[tokio::test]
async fn address_that_guesses_gets_429_before_its_key_is_looked_at() {
    let mut store = KeyStore::new();
    let valid = store.key(&["read"]).await;
    let server = protected(store.rule(), echo_key).await;
    let mut client = server.connect().await;
    let ask = |key: &str| with("GET", "/", &format!("authorization: Bearer {key}\r\n"));
    let mut guesses = 0;
    let refused = loop {
        let answer = client.ask(ask(ApiKey::generate().unwrap().reveal())).await;
        match answer.status {
            401 => guesses += 1,
            _ => break answer,
        }
        assert!(guesses < 10_000);
    };
    assert!(guesses >= 60, "{guesses}");
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    assert!(server.log.now().refusals.contains(&Refusal::ApiKeyGuesses));
    // Requests without a key are no guesses.
    assert_eq!(client.ask(get("/")).await.status, 401);
    assert_eq!(client.ask(get("/public")).await.status, 200);
    drop(valid);
}

/// Answers with a body that goes on for ever.
async fn endless(_: Request<Body>) -> Response<Body> {
    let pieces = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"data\n"))),
            (),
        ))
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

#[tokio::test]
async fn revocation_cuts_streams_and_requests_that_wait() {
    let mut store = KeyStore::new();
    let (key, other) = (store.key(&["read"]).await, store.key(&["read"]).await);
    let ask = |key: &NewKey| {
        with(
            "GET",
            "/",
            &format!("authorization: Bearer {}\r\n", key.key.reveal()),
        )
    };
    let server = protected(store.rule(), endless).await;
    let (mut cut, mut kept) = (server.connect().await, server.connect().await);
    for (client, key) in [(&mut cut, &key), (&mut kept, &other)] {
        client.send(ask(key)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client.exactly(20).await;
    }
    let waits = protected(store.rule(), |_| std::future::pending::<Response<Body>>()).await;
    let mut waiting = waits.connect().await;
    waiting.send(ask(&key)).await;
    store.revoke(&key).await;
    // Neither ends by itself.
    cut.rest().await;
    assert_eq!(waiting.answer().await.status, 401);
    kept.exactly(2000).await;
}

#[tokio::test]
async fn revocation_cuts_what_a_connection_does_whatever_keys_it_has_shown_before() {
    let mut store = KeyStore::new();
    let (key, other) = (store.key(&["read"]).await, store.key(&["read"]).await);
    let ask = |path: &str, key: &NewKey| {
        let header = format!("authorization: Bearer {}\r\n", key.key.reveal());
        with("GET", path, &header)
    };
    let target = |request: Request<Body>| async move {
        match request.uri().path() {
            "/short" => hello(request).await,
            "/stream" => endless(request).await,
            _ => std::future::pending().await,
        }
    };
    let server = protected(store.rule(), target).await;
    let histories: [&[&NewKey]; 5] = [
        &[&key],
        &[&key, &key, &key],
        &[&other, &key],
        &[&other, &other, &key, &key],
        &[&key, &key, &other, &other],
    ];
    let mut running = Vec::new();
    for history in histories {
        for path in ["/stream", "/wait"] {
            let mut client = server.connect().await;
            for key in history {
                assert_eq!(client.ask(ask("/short", key)).await.status, 200);
            }
            client.send(ask(path, &key)).await;
            if path == "/stream" {
                assert!(client.head().await.starts_with("HTTP/1.1 200"));
                client.exactly(20).await;
            }
            running.push((client, path));
        }
    }
    // The control: a connection with the key before, whose request that runs has another one.
    let mut kept = server.connect().await;
    for key in [&key, &key, &other, &other] {
        assert_eq!(kept.ask(ask("/short", key)).await.status, 200);
    }
    kept.send(ask("/stream", &other)).await;
    assert!(kept.head().await.starts_with("HTTP/1.1 200"));
    store.revoke(&key).await;
    for (mut client, path) in running {
        match path {
            "/stream" => drop(client.rest().await),
            _ => {
                assert_eq!(client.answer().await.status, 401);
                // The connection goes on with a key that is valid.
                assert_eq!(client.ask(ask("/short", &key)).await.status, 401);
                assert_eq!(client.ask(ask("/short", &other)).await.status, 200);
            }
        }
    }
    kept.exactly(2000).await;
}

#[tokio::test]
async fn revocation_closes_websockets_of_the_key_and_no_other() {
    let mut store = KeyStore::new();
    let (key, other) = (store.key(&["write"]).await, store.key(&["write"]).await);
    let (guests, mut has_guest) = mpsc::unbounded_channel();
    let target = move |_: Request<Body>| {
        let (to_guest, received) = mpsc::channel(1);
        let (says, from_guest) = mpsc::channel(1);
        guests.send((received, says)).unwrap();
        let mut response = text("");
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        let socket = GuestSocket {
            to_guest,
            from_guest,
        };
        response.extensions_mut().insert(Upgrade::new(socket));
        async move { response }
    };
    let server = protected(store.rule(), target).await;
    let mut sockets = Vec::new();
    for key in [&key, &other] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = Request::get(format!("/?api_key={}", key.key.reveal()))
            .header("host", "a.example")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 101);
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        sockets.push(
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await,
        );
    }
    let mut guest = soon(has_guest.recv()).await.unwrap();
    let mut other_guest = soon(has_guest.recv()).await.unwrap();
    store.revoke(&key).await;
    let Some(Ok(Message::Close(Some(frame)))) = soon(sockets[0].next()).await else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(frame.code), 1008);
    let closed = soon(guest.0.recv()).await.unwrap();
    assert!(
        matches!(closed, SocketMessage::Close { code: 1008, .. }),
        "{closed:?}"
    );
    sockets[1].send(Message::text("still here")).await.unwrap();
    let message = soon(other_guest.0.recv()).await.unwrap();
    assert!(
        matches!(&message, SocketMessage::Text(text) if text == "still here"),
        "{message:?}"
    );
}

#[tokio::test]
async fn http2_needs_a_key_too_and_takes_it_from_each_cookie_field() {
    let mut store = KeyStore::new();
    let made = store.key(&["read"]).await;
    let mut rule = store.rule();
    (rule.header, rule.query, rule.cookie) = (None, None, Some("key".to_owned()));
    let server = protected(rule, echo_key).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let key = made.key.reveal();
    for (cookies, status) in [
        (vec![], 401),
        (
            vec!["a=1".to_owned(), format!("key={key}"), "b=2".to_owned()],
            200,
        ),
        (vec![format!("key={key}"), format!("key={key}")], 400),
        (vec![format!("KEY={key}")], 401),
    ] {
        let mut request = Request::get(format!("http://a.example/?authorization=Bearer+{key}"));
        for cookie in &cookies {
            request = request.header("cookie", cookie);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{cookies:?}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(!body.contains("sk_stockade"), "{body}");
        if status == 200 {
            assert!(
                body.contains("cookie: a=1") && body.contains("b=2"),
                "{body}"
            );
        }
    }
}
