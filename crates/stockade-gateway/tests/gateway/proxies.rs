//! Proxies between client and gateway: whom to believe.

use http::Request;
use std::sync::Arc;
use stockade_gateway::{
    Limits, Listener, Pattern, ProxyProtocol, Refusal, Route, RouteTable, TableOptions,
};
use stockade_http::{Body, Client};

use crate::harness::*;

async fn who(request: Request<Body>) -> http::Response<Body> {
    let client = request.extensions().get::<Client>().unwrap();
    let header = request.headers()["x-forwarded-for"].to_str().unwrap();
    let scheme = request.uri().scheme_str().unwrap();
    text(format!(
        "{} {header} {scheme} {}",
        client.address.ip(),
        client.request_id
    ))
}

async fn serve(proxy_protocol: ProxyProtocol, trusted: &[&str], limits: Limits) -> Server {
    let options = TableOptions {
        trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
        ..TableOptions::default()
    };
    let route = Route::new("all", vec![Pattern::any()], Arc::new(who));
    let listener = Listener {
        proxy_protocol,
        ..listener()
    };
    Server::start(
        listener,
        RouteTable::new(vec![route], options).unwrap(),
        limits,
    )
    .await
}

const HERE: &str = "127.0.0.0/8";

#[tokio::test]
async fn header_is_believed_from_a_trusted_proxy_only() {
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.5, 198.51.100.7\r\n\
                   x-forwarded-proto: https\r\nx-request-id: theirs\r\n\r\n";
    let server = serve(ProxyProtocol::Off, &[HERE], Limits::default()).await;
    let mut client = server.connect().await;
    let answer = client.ask(request).await;
    assert_eq!(answer.text(), "198.51.100.7 198.51.100.7 https theirs");
    assert_eq!(answer.header("x-request-id"), Some("theirs"));
    let record = server.log.request().await;
    assert_eq!(record.client.ip().to_string(), "198.51.100.7");
    assert_eq!(record.peer.ip().to_string(), "127.0.0.1");
    let server = serve(ProxyProtocol::Off, &["10.0.0.0/8"], Limits::default()).await;
    let mut client = server.connect().await;
    let answer = client.ask(request).await;
    assert!(
        answer.text().starts_with("127.0.0.1 127.0.0.1 http "),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("theirs"));
}

#[tokio::test]
async fn client_behind_a_proxy_takes_no_header_away() {
    // A proxy that passes `connection` on as its client wrote it.
    let names =
        "connection: cf-connecting-ip, x-forwarded-for, x-forwarded-proto, x-request-id\r\n";
    let request = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.7\r\nx-forwarded-proto: https\r\n\
         x-request-id: theirs\r\n{names}\r\n"
    );
    let server = serve(ProxyProtocol::Off, &[HERE], Limits::default()).await;
    let answer = server.connect().await.ask(&request).await;
    assert_eq!(answer.text(), "198.51.100.7 198.51.100.7 https theirs");
    let server = serve(ProxyProtocol::Required, &[HERE], Limits::default()).await;
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{names}\r\n");
    let answer = server
        .connect()
        .await
        .ask([V1, request.as_bytes()].concat())
        .await;
    assert!(
        answer.text().starts_with("203.0.113.5 203.0.113.5 http "),
        "{}",
        answer.text()
    );
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.5 127.0.0.1 4000 80\r\n";

fn v2() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend([203, 0, 113, 6, 127, 0, 0, 1, 0x0f, 0xa0, 0, 80]);
    bytes
}

#[tokio::test]
async fn proxy_header_names_the_client() {
    for mode in [ProxyProtocol::Optional, ProxyProtocol::Required] {
        let server = serve(mode, &[HERE], Limits::default()).await;
        for (header, address) in [(V1.to_vec(), "203.0.113.5"), (v2(), "203.0.113.6")] {
            // Whole with the request, and byte by byte.
            let mut client = server.connect().await;
            let answer = client.ask([&header, get("/").as_bytes()].concat()).await;
            assert!(
                answer
                    .text()
                    .starts_with(&format!("{address} {address} http "))
            );
            let mut client = server.connect().await;
            client.stream.set_nodelay(true).unwrap();
            for byte in &header {
                client.send([*byte]).await;
                tokio::task::yield_now().await;
            }
            let answer = client.ask(get("/")).await;
            assert!(answer.text().starts_with(&format!("{address} ")));
        }
        // A proxy that checks its own health names nobody.
        let mut client = server.connect().await;
        let answer = client
            .ask([b"PROXY UNKNOWN\r\n", get("/").as_bytes()].concat())
            .await;
        assert!(answer.text().starts_with("127.0.0.1 "));
    }
}

#[tokio::test]
async fn proxy_header_is_taken_only_where_it_is_expected() {
    let with = |header: &[u8]| [header, get("/").as_bytes()].concat();
    let server = serve(ProxyProtocol::Optional, &[HERE], Limits::default()).await;
    assert_eq!(server.connect().await.ask(get("/")).await.status, 200);
    let post = "POST / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(server.connect().await.ask(post).await.status, 200);

    // Without trust it is not a header of this protocol, but a malformed request.
    let server = serve(ProxyProtocol::Optional, &[], Limits::default()).await;
    assert_eq!(server.connect().await.ask(with(V1)).await.status, 400);
    let server = serve(ProxyProtocol::Off, &[HERE], Limits::default()).await;
    assert_eq!(server.connect().await.ask(with(V1)).await.status, 400);

    let closed = async |trusted: &[&str], bytes: Vec<u8>| {
        let server = serve(ProxyProtocol::Required, trusted, Limits::default()).await;
        let mut client = server.connect().await;
        client.send(bytes).await;
        client.closed().await;
        server
            .log
            .until(|recorded| recorded.refusals == [Refusal::ProxyProtocol])
            .await;
    };
    closed(&[HERE], get("/").into_bytes()).await;
    closed(&[HERE], b"PROXY TCP4 nonsense\r\n".to_vec()).await;
    closed(&[], with(V1)).await;
}

#[tokio::test]
async fn proxy_header_that_does_not_come_ends_the_connection() {
    let short = std::time::Duration::from_millis(200);
    let limits = Limits {
        handshake_timeout: short,
        ..Limits::default()
    };
    let server = serve(ProxyProtocol::Required, &[HERE], limits).await;
    let mut client = server.connect().await;
    client.send("PROXY TCP4 ").await;
    client.closed().await;
    server
        .log
        .until(|recorded| recorded.refusals == [Refusal::HandshakeTimeout])
        .await;
}

#[tokio::test]
async fn connections_through_a_proxy_count_for_its_clients() {
    let limits = Limits {
        connections_per_address: 1,
        ..Limits::default()
    };
    let server = serve(ProxyProtocol::Required, &[HERE], limits).await;
    let from = |last: u8| {
        format!(
            "PROXY TCP4 203.0.113.{last} 127.0.0.1 4000 80\r\n{}",
            get("/")
        )
    };
    let mut clients = Vec::new();
    for last in 1..4 {
        let mut client = server.connect().await;
        assert_eq!(client.ask(from(last)).await.status, 200);
        clients.push(client);
    }
    let mut again = server.connect().await;
    again.send(from(1)).await;
    again.closed().await;
    server
        .log
        .until(|recorded| recorded.refusals == [Refusal::ConnectionsOfAddress])
        .await;
}
