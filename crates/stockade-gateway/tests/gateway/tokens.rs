//! Tokens and client certificates as alternatives to API keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stockade_auth::{JwtAlgorithm, JwtOptions, JwtVerifier};
use stockade_gateway::{
    KeyRule, LimitBy, Limits, Pattern, RateRule, Refusal, Route, RouteLimits, Unit,
};
use stockade_http::{Body, BoxError, Client};
use stockade_limits::{Allowance, Counters, Period};

use crate::harness::*;
use crate::keys::{KeyStore, with};

/// An issuer of tokens, and what checks them.
struct Issuer {
    key: Ed25519KeyPair,
    verifier: Arc<JwtVerifier>,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl Issuer {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": b64(key.public_key())});
        std::fs::write(&path, json!({"keys": [jwk]}).to_string()).unwrap();
        let options = JwtOptions {
            algorithms: vec![JwtAlgorithm::EdDsa],
            issuers: vec!["https://id.example".to_owned()],
            audiences: vec!["shop".to_owned()],
            leeway: Duration::ZERO,
            claims: Vec::new(),
        };
        let verifier = Arc::new(JwtVerifier::read(&path, options).unwrap());
        Self { key, verifier }
    }

    fn token(&self, subject: &str, expires: u64) -> String {
        let header = json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"});
        let claims =
            json!({"iss": "https://id.example", "aud": ["shop"], "sub": subject, "exp": expires});
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        format!("{message}.{}", b64(self.key.sign(message.as_bytes())))
    }
}

/// What is known of the client, and the request as the target has it.
async fn echo_client(request: Request<Body>) -> Response<Body> {
    let client = request.extensions().get::<Client>().unwrap();
    let known = json!({
        "key": client.api_key.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap()),
        "token": client.token.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap()),
    });
    let echoed = echo(request).await.into_body().collect().await.unwrap();
    text([known.to_string().as_bytes(), b"\n", &echoed.to_bytes()].concat())
}

async fn protected(rule: KeyRule, limits: Option<RouteLimits>) -> Server {
    let mut route = Route::new("shop", vec![Pattern::any()], Arc::new(echo_client));
    route.api_key = Some(Arc::new(rule));
    route.limits = limits.map(Arc::new);
    Server::start(listener(), table(vec![route]), Limits::default()).await
}

fn bearer(text: &str) -> String {
    with("GET", "/", &format!("authorization: Bearer {text}\r\n"))
}

#[tokio::test]
async fn token_or_key_lets_in_and_the_target_receives_neither() {
    let (issuer, mut store) = (Issuer::new(), KeyStore::new());
    let made = store.key(&["read"]).await;
    let key = made.key.reveal();
    let rule = KeyRule {
        tokens: Some(Arc::clone(&issuer.verifier)),
        ..store.rule()
    };
    let server = protected(rule, None).await;
    let mut client = server.connect().await;
    let token = issuer.token("u1", now() + 600);
    let answer = client.ask(bearer(&token)).await;
    assert_eq!(answer.status, 200);
    let (known, head) = answer.text().split_once('\n').unwrap();
    let known: Value = serde_json::from_str(known).unwrap();
    assert_eq!(known["key"], Value::Null);
    assert_eq!(known["token"]["subject"], "u1");
    assert_eq!(known["token"]["claims"]["iss"], "https://id.example");
    assert!(
        !head.contains(&token) && !head.contains("authorization"),
        "{head}"
    );
    let answer = client.ask(bearer(key)).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("\"token\":null"),
        "{}",
        answer.text()
    );
    // Nothing, two credentials, and ones that are not valid.
    let nothing = client.ask(with("GET", "/", "")).await;
    assert_eq!(nothing.status, 401);
    // It names what lets in there, and nothing else.
    assert!(
        nothing.text().contains("An API key or a token is needed."),
        "{}",
        nothing.text()
    );
    let both = with(
        "GET",
        &format!("/?api_key={key}"),
        &format!("authorization: Bearer {token}\r\n"),
    );
    assert_eq!(client.ask(both).await.status, 400);
    for wrong in [
        issuer.token("u1", now() - 1),
        Issuer::new().token("u1", now() + 600),
        token.replacen('e', "f", 1),
        format!("{token}.x"),
        "null".to_owned(),
        format!("sk_stockade_{token}"),
    ] {
        let answer = client.ask(bearer(&wrong)).await;
        assert_eq!(answer.status, 401, "{wrong}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(
            challenge,
            Some("Bearer realm=\"shop\", error=\"invalid_token\"")
        );
    }
    let refusals = server
        .log
        .until(|log| log.requests.len() == 10)
        .await
        .refusals;
    assert!(refusals.contains(&Refusal::Token) && refusals.contains(&Refusal::ApiKey));
}

#[tokio::test]
async fn site_for_tokens_alone_takes_no_key_and_bounds_wrong_tokens() {
    let (issuer, mut store) = (Issuer::new(), KeyStore::new());
    let made = store.key(&["admin"]).await;
    let rule = KeyRule {
        keys: None,
        header: None,
        query: None,
        tokens: Some(Arc::clone(&issuer.verifier)),
        ..store.rule()
    };
    let server = protected(rule, None).await;
    let mut client = server.connect().await;
    let key = made.key.reveal();
    for request in [bearer(key), with("GET", &format!("/?api_key={key}"), "")] {
        let answer = client.ask(request).await;
        assert_eq!(answer.status, 401);
        assert!(!answer.text().contains(key));
    }
    assert_eq!(
        client
            .ask(bearer(&issuer.token("u", now() + 60)))
            .await
            .status,
        200
    );
    let mut statuses = Vec::new();
    for _ in 0..200 {
        statuses.push(client.ask(bearer("a.b.c")).await.status);
    }
    assert!(statuses.contains(&401) && statuses.contains(&429));
}

#[tokio::test]
async fn token_that_expires_cuts_the_streams_that_it_opened() {
    let issuer = Issuer::new();
    let rule = KeyRule {
        keys: None,
        tokens: Some(Arc::clone(&issuer.verifier)),
        ..KeyStore::new().rule()
    };
    let target = |_: Request<Body>| async {
        // Sends nothing, and never ends by itself.
        let stream = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        Response::new(http_body_util::StreamBody::new(stream).boxed_unsync())
    };
    let mut route = Route::new("shop", vec![Pattern::any()], Arc::new(target));
    route.api_key = Some(Arc::new(rule));
    let server = Server::start(listener(), table(vec![route]), Limits::default()).await;
    let mut client = server.connect().await;
    client.send(bearer(&issuer.token("u", now() + 2))).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    client.rest().await;
}

#[tokio::test]
async fn claim_of_a_token_has_its_own_limit() {
    let issuer = Issuer::new();
    let rule = KeyRule {
        keys: None,
        tokens: Some(Arc::clone(&issuer.verifier)),
        ..KeyStore::new().rule()
    };
    let two = Allowance::new(std::num::NonZeroU64::new(2).unwrap(), Period::Hour, None);
    let limit = RateRule {
        by: vec![LimitBy::Claim("sub".to_owned())],
        methods: Vec::new(),
        paths: Vec::new(),
        allowances: vec![(Unit::Requests, two)],
    };
    let counters = Arc::new(Counters::new(1024, [7; 16]));
    let limits = RouteLimits::new(counters, 64, [("shop".to_owned(), limit)]);
    let server = protected(rule, Some(limits)).await;
    let mut client = server.connect().await;
    let mut statuses = Vec::new();
    for subject in ["a", "a", "a", "b"] {
        // Each has another signature and end.
        let token = issuer.token(subject, now() + 600 + statuses.len() as u64);
        statuses.push(client.ask(bearer(&token)).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
}
