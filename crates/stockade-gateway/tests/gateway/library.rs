//! What the HTTP library does by itself: why the gateway checks the bytes first. A case that the
//! library comes to refuse is news, and `docs/gateway.md` has to say so.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// The library's answer to the first request; 200 if it took it with its whole body.
async fn alone(case: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(async |request: hyper::Request<Incoming>| {
            let mut response = hyper::Response::new(Full::new(Bytes::new()));
            if request.into_body().collect().await.is_err() {
                *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
            }
            Ok::<_, Infallible>(response)
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let mut client = Raw::new(TcpStream::connect(address).await.unwrap());
    client.ask(case).await.status
}

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n{body}")
}

#[tokio::test]
async fn library_alone_takes_what_the_gateway_refuses() {
    let chunked = "transfer-encoding: chunked";
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(2000));
    for case in [
        post(
            "content-length: 5\r\ntransfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        post(
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "0\r\n\r\n",
        ),
        post("content-length: 5\r\ncontent-length: 5", "hello"),
        post("transfer-encoding: gzip, chunked", "0\r\n\r\n"),
        post("transfer-encoding: identity, chunked", "0\r\n\r\n"),
        post(
            "transfer-encoding: identity\r\ntransfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        post(
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        post(chunked, "5 \r\nhello\r\n0\r\n\r\n"),
        post(chunked, &long),
        "GET / HTTP/1.1\nhost: a\n\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\n\r\n".to_owned(),
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /#x HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n".to_owned(),
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ] {
        assert_eq!(alone(&case).await, 200, "{case:?}");
    }
}

#[tokio::test]
async fn library_alone_refuses_the_rest() {
    let chunked = "transfer-encoding: chunked";
    for case in [
        post("content-length: 5\r\ncontent-length: 6", "hello"),
        post("content-length: 5, 5", "hello"),
        post("content-length: +5", "hello"),
        post("content-length: -5", "hello"),
        post("transfer-encoding: xchunked", "0\r\n\r\n"),
        post("transfer-encoding: chunked, identity", "0\r\n\r\n"),
        post("transfer-encoding : chunked", "0\r\n\r\n"),
        post("x: y\r\n folded", ""),
        post("x: a\u{0}b", ""),
        post("x: a\rb", ""),
        post(chunked, "5\nhello\r\n0\r\n\r\n"),
        post(chunked, "5\r\nhelloXX0\r\n\r\n"),
        post(chunked, "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let status = alone(&case).await;
        assert!(matches!(status, 400 | 418), "{case:?}: {status}");
    }
}
