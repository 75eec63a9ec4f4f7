//! Secrets: a guest uses them and never holds them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use stockade_broker::{Misplaced, Reason};

use super::servers::{self, reply};
use super::setting::{Setting, empty, full, get, text};

const VALUE: &str = "sk-live-0123456789abcdef";

fn elsewhere(why: Misplaced) -> Reason {
    Reason::SecretElsewhere {
        secret: "KEY".into(),
        why,
    }
}

#[tokio::test]
async fn bound_host_gets_the_value_and_the_guest_the_placeholder_back() {
    // A server that echoes what it was sent, in header and body.
    let server = servers::http(|request| async move {
        let sent = request.headers()["authorization"].clone();
        let mut response = reply(format!("you sent {}!", sent.to_str().unwrap()));
        response.headers_mut().insert("x-echo", sent);
        response
    })
    .await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["127.0.0.1"], VALUE, |_| ());
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
    let request = Request::get(server.url("/")).header("authorization", format!("Bearer {key}"));
    let response = egress
        .clone()
        .fetch(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.headers()["x-echo"], format!("Bearer {key}"));
    *seen.lock() = text(response).await;
    assert_eq!(*seen.lock(), format!("you sent Bearer {key}!"));
}

#[tokio::test]
async fn value_goes_out_in_headers_and_basic_credentials() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["127.0.0.1"], VALUE, |_| ());
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{key}")));
    for (name, value) in [("x-api-key", key.clone()), ("authorization", basic)] {
        let request = Request::get(server.url("/"))
            .header(name, value)
            .body(empty())
            .unwrap();
        assert_eq!(
            text(egress.clone().fetch(request).await.unwrap()).await,
            "ok"
        );
    }
    let heads = heads.lock();
    assert!(
        heads[0].contains(&format!("x-api-key: {VALUE}\r\n")),
        "{}",
        heads[0]
    );
    let basic = STANDARD.encode(format!("user:{VALUE}"));
    assert!(
        heads[1].contains(&format!("authorization: Basic {basic}\r\n")),
        "{}",
        heads[1]
    );
    assert!(!heads.concat().contains(&key));
}

#[tokio::test]
async fn placeholder_towards_another_host_is_refused_wherever_it_stands() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["api.example"], VALUE, |_| ());
    let url = server.url("/");
    let basic = format!("Basic {}", STANDARD.encode(format!("{key}:")));
    let in_pieces = {
        let (one, two) = key.split_at(20);
        let pieces = [one.to_owned(), two.to_owned()].map(|piece| {
            Ok::<_, stockade_http::BoxError>(http_body::Frame::data(bytes::Bytes::from(piece)))
        });
        let stream = futures_util::stream::iter(pieces);
        http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(stream))
    };
    let requests = [
        Request::get(&url)
            .header("authorization", &key)
            .body(empty()),
        Request::get(&url)
            .header("authorization", basic)
            .body(empty()),
        Request::get(format!("{url}?k={key}")).body(empty()),
        Request::get(format!("{url}{key}/x")).body(empty()),
        Request::get(&url).header(&key, "1").body(empty()),
        Request::post(&url).body(full(format!("{{\"key\": \"{key}\"}}"))),
        Request::post(&url).body(in_pieces),
    ];
    for (n, request) in requests.into_iter().enumerate() {
        let error = egress.clone().fetch(request.unwrap()).await.unwrap_err();
        let refusal = error
            .refusal()
            .unwrap_or_else(|| panic!("case {n}: {error}"));
        assert!(
            matches!(refusal.reason, Reason::SecretElsewhere { .. }),
            "case {n}: {error}"
        );
        assert!(!error.to_string().contains(VALUE) && !error.to_string().contains(&key));
    }
    assert!(!heads.lock().concat().contains(&key));
    // The control: the same server, no placeholder.
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn placeholder_over_clear_text_is_refused_unless_allowed() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["127.0.0.1"], VALUE, |secret| {
        secret.over_plain_text = false
    });
    let request = Request::get(server.url("/"))
        .header("authorization", &key)
        .body(empty())
        .unwrap();
    let error = egress.fetch(request).await.unwrap_err();
    assert_eq!(
        error.refusal().unwrap().reason,
        elsewhere(Misplaced::PlainText)
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn value_in_a_url_is_filled_in_only_where_allowed() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let (closed, key) = setting.open_with_secret(&["127.0.0.1"], "a b&c=d", |_| ());
    let url = format!("{}?key={key}&x=1", server.url("/"));
    assert_eq!(
        get(&closed, &url)
            .await
            .unwrap_err()
            .refusal()
            .unwrap()
            .reason,
        elsewhere(Misplaced::Url)
    );
    let (open, _) =
        setting.open_with_secret(&["127.0.0.1"], "a b&c=d", |secret| secret.in_urls = true);
    assert_eq!(text(get(&open, &url).await.unwrap()).await, "ok");
    assert!(
        heads.lock()[0].starts_with("GET /?key=a%20b%26c%3Dd&x=1 "),
        "{}",
        heads.lock()[0]
    );
}

#[tokio::test]
async fn placeholder_stays_the_same_across_reloads_and_differs_between_instances() {
    let setting = Setting::new();
    let (_, one) = setting.open_with_secret(&["a.example"], "first value", |_| ());
    let (_, two) = setting.open_with_secret(&["b.example"], "rotated value", |_| ());
    assert_eq!(one, two);
    let secret = stockade_broker::Secret {
        name: "KEY".to_owned(),
        value: stockade_broker::SecretValue::new("x"),
        hosts: vec![stockade_http::HostPattern::parse("a.example").unwrap()],
        over_plain_text: false,
        in_urls: false,
    };
    let other = setting.broker.secrets("other", vec![secret]).unwrap();
    assert_ne!(other.environment().next().unwrap().1, one);
}

/// The echo comes in pieces that cut the value everywhere.
#[tokio::test]
async fn value_echoed_in_pieces_is_masked_too() {
    let server = servers::http(|_| async {
        let text = format!("<{VALUE}><{}{VALUE}", &VALUE[..10]);
        let pieces = text.into_bytes().into_iter().map(|byte| {
            Ok::<_, stockade_http::BoxError>(http_body::Frame::data(vec![byte].into()))
        });
        let stream = futures_util::stream::iter(pieces);
        let body = http_body_util::StreamBody::new(stream);
        http::Response::new(http_body_util::BodyExt::boxed_unsync(body))
    })
    .await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["127.0.0.1"], VALUE, |_| ());
    let response = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(
        text(response).await,
        format!("<{key}><{}{key}", &VALUE[..10])
    );
}
