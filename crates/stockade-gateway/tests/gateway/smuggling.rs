//! Requests that two servers could read in two ways. Each is answered 400 and the connection is closed;
//! the target never sees what follows.

use http::Request;
use stockade_gateway::Refusal;
use stockade_http::Body;

use crate::harness::*;

/// What follows in each case: a request that must not be answered.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";

async fn refused(case: &str, status: u16) {
    for target in [true, false] {
        // A target that reads the body, and one that does not.
        let server = if target {
            Server::one(echo).await
        } else {
            Server::one(hello).await
        };
        let mut client = server.connect().await;
        client.send(format!("{case}{HIDDEN}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{case:?}: {}", answer.head);
        assert_eq!(answer.header("connection"), Some("close"), "{case:?}");
        client.closed().await;
        let recorded = server
            .log
            .until(|recorded| !recorded.refusals.is_empty() && recorded.closed == 1)
            .await;
        let hidden = recorded
            .requests
            .iter()
            .any(|record| record.path == "/hidden");
        assert!(!hidden, "{case:?}");
        assert_eq!(
            recorded.refusals.len(),
            1,
            "{case:?}: {:?}",
            recorded.refusals
        );
    }
}

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n{body}")
}

#[tokio::test]
async fn length_along_with_chunks_is_refused() {
    let chunks = "0\r\n\r\n";
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 0\r\ntransfer-encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: Chunked",
    ] {
        refused(&post(lines, chunks), 400).await;
    }
}

#[tokio::test]
async fn length_that_is_not_one_number_is_refused() {
    for lines in [
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 6\r\ncontent-length: 5",
        "content-length: 5, 5",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: -5",
        "content-length: 5 ,",
        "content-length: 0x5",
        "content-length: 5e0",
        "content-length: \"5\"",
        "content-length: 1 5",
        "content-length: 99999999999999999999999",
        "content-length: 18446744073709551621",
        "content-length: ",
    ] {
        refused(&post(lines, "hello"), 400).await;
    }
}

#[tokio::test]
async fn encoding_that_is_not_chunked_alone_is_refused() {
    for lines in [
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: gzip",
        "transfer-encoding: identity",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: ",
    ] {
        refused(&post(lines, "0\r\n\r\n"), 400).await;
    }
    refused(
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    )
    .await;
}

#[tokio::test]
async fn field_that_hides_its_name_is_refused() {
    for lines in [
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        " transfer-encoding: chunked",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\r\n\ttransfer-encoding: chunked",
        "transfer\u{0}-encoding: chunked",
        "x: a\u{0}b",
        ": chunked",
        "transfer-encoding",
        "x: y\rtransfer-encoding: chunked",
        "x: y\u{1}",
        "x: y\u{7f}",
        "x(y): z",
    ] {
        refused(&post(lines, "0\r\n\r\n"), 400).await;
    }
}

#[tokio::test]
async fn line_that_ends_otherwise_is_refused() {
    for case in [
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\rhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx: y\ncontent-length: 40\r\nhost: a\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        refused(case, 400).await;
    }
}

#[tokio::test]
async fn request_line_that_is_malformed_is_refused() {
    for case in [
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        "GET /\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET / http/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1x\r\nhost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "G@T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /#x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        refused(case, 400).await;
    }
}

#[tokio::test]
async fn host_that_is_not_one_is_refused() {
    for case in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: \r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        refused(case, 400).await;
    }
}

#[tokio::test]
async fn chunk_that_is_malformed_is_refused() {
    let long = "a".repeat(2000);
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\n\r\n",
        "5\r\nhello\r\n0\r\n x: y\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        &format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
    ] {
        refused(&post("transfer-encoding: chunked", body), 400).await;
    }
}

#[tokio::test]
async fn chunk_extension_of_moderate_length_is_ignored() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let chunks = "5;name=value;other=\"x y\"\r\nhello\r\n0;last\r\n\r\n";
    let answer = client.ask(post("transfer-encoding: chunked", chunks)).await;
    assert!(answer.text().ends_with("\n\nhello"));
    let record = server.log.request().await;
    assert_eq!(record.bytes_in, 5);
}

#[tokio::test]
async fn chunk_that_turns_out_malformed_later_is_refused() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    client
        .send(post("transfer-encoding: chunked", "5\r\nhello\r\n"))
        .await;
    client.send("zz\r\n").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (400, Some("close"))
    );
    client.closed().await;
    assert_eq!(server.log.now().refusals, [Refusal::MalformedBody]);
}

#[tokio::test]
async fn second_request_is_inspected_like_the_first() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let second = post(
        "content-length: 5\r\ntransfer-encoding: chunked",
        "0\r\n\r\n",
    );
    client
        .send(format!(
            "{}{second}{HIDDEN}",
            post("content-length: 5", "hello")
        ))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 400);
    client.closed().await;
}

#[tokio::test]
async fn bytes_after_a_wish_to_upgrade_are_not_a_request() {
    let server = Server::one(async |request: Request<Body>| echo(request).await).await;
    let mut client = server.connect().await;
    let wish = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n";
    client.send(format!("{wish}{HIDDEN}")).await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.contains("HTTP/1.1 400 "), "{rest}");
    let recorded = server.log.until(|recorded| recorded.closed == 1).await;
    assert!(
        recorded
            .requests
            .iter()
            .all(|record| record.path != "/hidden")
    );
    // One after the other is fine.
    let mut client = server.connect().await;
    assert!(client.ask(wish).await.text().starts_with("GET http://a/\n"));
    assert!(
        client
            .ask(HIDDEN)
            .await
            .text()
            .starts_with("GET http://a/hidden\n")
    );
    assert!(client.ask(wish).await.text().starts_with("GET http://a/\n"));
}
