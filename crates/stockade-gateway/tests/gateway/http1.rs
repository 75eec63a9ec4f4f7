//! HTTP/1.1 (RFC 9112), as it is meant.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use stockade_gateway::Outcome;
use stockade_http::{Body, BoxError, Client, Problem};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::harness::*;

#[tokio::test]
async fn request_reaches_the_target_and_its_answer_the_client() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let answer = client
        .ask("POST /a%20b?x=%2F HTTP/1.1\r\nHost: A.Example\r\nX-Own: 1\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(
        text.starts_with("POST http://a.example/a%20b?x=%2F\n"),
        "{text}"
    );
    assert!(text.contains("\nhost: a.example\n"), "{text}");
    assert!(text.contains("\nx-own: 1\n"), "{text}");
    assert!(text.contains("\nx-forwarded-for: 127.0.0.1\n"), "{text}");
    assert!(text.ends_with("\n\nhello"), "{text}");
    assert!(answer.header("date").is_some());
    assert!(answer.header("server").is_none());
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert!(text.contains(&format!("x-request-id: {id}\n")), "{text}");
    let record = server.log.request().await;
    assert_eq!(*record.request_id, *id);
    assert_eq!(record.route.as_deref(), Some("all"));
    assert_eq!(record.host.as_deref(), Some("a.example"));
    assert_eq!(
        (record.path.as_str(), record.query.as_deref()),
        ("/a%20b", Some("x=%2F"))
    );
    assert_eq!(
        (record.bytes_in, record.bytes_out),
        (5, answer.body.len() as u64)
    );
    assert_eq!(
        (record.status, record.outcome),
        (StatusCode::OK, Outcome::Complete)
    );
    assert_eq!(server.gateway.stats().requests, 0);
}

#[tokio::test]
async fn connection_serves_many_requests_in_order() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    client
        .send(format!("{}{}\r\n{}", get("/1"), get("/2"), get("/3")))
        .await;
    for number in 1..=3 {
        let answer = client.answer().await;
        assert!(
            answer
                .text()
                .starts_with(&format!("GET http://a.example/{number}\n"))
        );
    }
    let answer = client
        .ask("GET /4 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed().await;
    assert_eq!(server.gateway.stats().accepted, 1);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let answer = client.ask("GET /x HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    client.closed().await;
}

/// A body that the test feeds.
fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    // Each chunk of the request is answered before the next one is sent.
    let server = Server::one(async |request: Request<Body>| {
        let (sender, body) = fed();
        let mut incoming = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = incoming.frame().await {
                sender.send(Ok(frame)).await.unwrap();
            }
        });
        Response::new(body)
    })
    .await;
    let mut client = server.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    for number in 0..5 {
        client.send(format!("5\r\npart{number}\r\n")).await;
        assert_eq!(
            client.exactly(10).await,
            format!("5\r\npart{number}\r\n").as_bytes()
        );
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
    let record = server.log.request().await;
    assert_eq!((record.bytes_in, record.bytes_out), (25, 25));
}

#[tokio::test]
async fn target_that_lags_makes_the_client_wait() {
    let turns = Arc::new(Semaphore::new(0));
    let (counted, mut count) = mpsc::unbounded_channel();
    let permits = Arc::clone(&turns);
    let server = Server::one(move |request: Request<Body>| {
        let (permits, counted) = (Arc::clone(&permits), counted.clone());
        async move {
            let mut body = request.into_body();
            permits.acquire().await.unwrap().forget();
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.into_data().map_or(0, |data| data.len());
            }
            counted.send(read).unwrap();
            text("done")
        }
    })
    .await;
    let mut client = server.connect().await;
    let size = 64 << 20;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        ))
        .await;
    // The client can't get rid of its bytes while the target reads none.
    let chunk = vec![0; 1 << 20];
    let mut sent = 0;
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(500), async {
        while sent < size {
            use tokio::io::AsyncWriteExt;
            sent += client
                .stream
                .write(&chunk[..chunk.len().min(size - sent)])
                .await
                .unwrap();
        }
    })
    .await;
    assert!(stuck.is_err(), "all {sent} bytes were taken");
    turns.add_permits(1);
    while sent < size {
        let next = chunk.len().min(size - sent);
        client.send(&chunk[..next]).await;
        sent += next;
    }
    assert_eq!(soon(count.recv()).await, Some(size));
    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn client_that_goes_away_ends_the_work_for_it() {
    struct DropNotice(Option<oneshot::Sender<()>>);
    impl Drop for DropNotice {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let server = Server::one(move |_request: Request<Body>| {
        let begun = begun.clone();
        async move {
            let (ended, has_ended) = oneshot::channel();
            let _notice = DropNotice(Some(ended));
            begun.send(has_ended).unwrap();
            std::future::pending::<Response<Body>>().await
        }
    })
    .await;
    let mut client = server.connect().await;
    client.send(get("/")).await;
    let has_ended = soon(has_begun.recv()).await.unwrap();
    drop(client);
    soon(has_ended).await.unwrap();
    assert_eq!(server.log.request().await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn client_that_stops_reading_ends_the_body() {
    let (bodies, mut has_body) = mpsc::unbounded_channel();
    let server = Server::one(move |_request: Request<Body>| {
        let bodies = bodies.clone();
        async move {
            let (sender, body) = fed();
            bodies.send(sender).unwrap();
            Response::new(body)
        }
    })
    .await;
    let mut client = server.connect().await;
    client.send(get("/")).await;
    let sender = soon(has_body.recv()).await.unwrap();
    sender
        .send(Ok(Frame::data(Bytes::from("x"))))
        .await
        .unwrap();
    client.head().await;
    drop(client);
    soon(sender.closed()).await;
    assert_eq!(server.log.request().await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn expectation_is_met_only_when_the_body_is_wanted() {
    let server = Server::one(async |request: Request<Body>| {
        if request.uri().path() == "/no" {
            let mut response = text("no");
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        echo(request).await
    })
    .await;
    let ask = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        )
    };
    let mut client = server.connect().await;
    client.send(ask("/yes")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 Continue\r\n"));
    let answer = client.ask("hello").await;
    assert!(answer.text().ends_with("\n\nhello"));
    assert!(!answer.text().contains("expect"));
    let answer = client.ask(ask("/no")).await;
    assert_eq!(answer.status, 403);
    let mut client = server.connect().await;
    let answer = client
        .ask("GET / HTTP/1.1\r\nhost: a\r\nexpect: a-miracle\r\n\r\n")
        .await;
    assert_eq!(answer.status, 417);
    client.closed().await;
}

#[tokio::test]
async fn client_may_go_on_with_a_body_that_nobody_reads() {
    let server = Server::one(hello).await;
    let mut client = server.connect().await;
    let size = 3 << 20;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        ))
        .await;
    client.send(vec![0; 1 << 20]).await;
    assert_eq!(client.answer().await.text(), "hello");
    // A reset would make sending fail, and many clients would then not read the answer.
    for _ in 0..32 {
        client.send(vec![0; 1 << 16]).await;
    }
    client.closed().await;
}

#[tokio::test]
async fn trailers_reach_the_target_but_for_those_that_frame() {
    let server = Server::one(async |request: Request<Body>| {
        let collected = request.into_body().collect().await.unwrap();
        let trailers = format!("{:?}", collected.trailers());
        text(trailers)
    })
    .await;
    let mut client = server.connect().await;
    let answer = client
        .ask(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 7\r\ncontent-length: 9\r\nhost: b\r\n\r\n",
        )
        .await;
    assert_eq!(answer.text(), "Some({\"x-sum\": \"7\"})");
}

#[tokio::test]
async fn trailers_of_a_response_reach_a_client_that_takes_them() {
    let server = Server::one(async |_request: Request<Body>| {
        let (sender, body) = fed();
        tokio::spawn(async move {
            sender
                .send(Ok(Frame::data(Bytes::from("x"))))
                .await
                .unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("7"));
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::TRAILER, HeaderValue::from_static("x-sum"));
        response
    })
    .await;
    let mut client = server.connect().await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n")
        .await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.ends_with("1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let server = Server::one(hello).await;
    let mut client = server.connect().await;
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.contains("content-length: 5\r\n"), "{head}");
    // The next bytes are the next answer.
    let answer = client.ask(get("/")).await;
    assert_eq!(answer.text(), "hello");
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 2)
        .await;
    assert_eq!(
        (recorded.requests[0].bytes_out, recorded.requests[0].outcome),
        (0, Outcome::Complete)
    );
}

#[tokio::test]
async fn head_has_the_length_of_the_answer_to_get() {
    let server = Server::one(async |request: Request<Body>| {
        let body = match request.uri().path() {
            "/none" => "",
            _ => "hello",
        };
        let mut response = text(body);
        let length = match request.uri().path() {
            "/two" => &["1", "2"][..],
            "/nonsense" => &["-1"],
            _ => &["99"],
        };
        for length in length {
            let length = HeaderValue::from_static(length);
            response.headers_mut().append("content-length", length);
        }
        response
    })
    .await;
    let mut client = server.connect().await;
    for (path, length) in [
        ("/", "5"),
        ("/two", "5"),
        ("/nonsense", "5"),
        // Of a body that is not there, the target alone knows.
        ("/none", "99"),
    ] {
        client
            .send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n"))
            .await;
        let head = client.head().await;
        let found: Vec<_> = head
            .lines()
            .filter_map(|line| line.strip_prefix("content-length: "))
            .collect();
        assert_eq!(found, [length], "{path}: {head}");
    }
    assert_eq!(client.ask(get("/")).await.text(), "hello");
}

#[tokio::test]
async fn status_is_called_what_the_target_calls_it() {
    let server = Server::one(async |request: Request<Body>| {
        let mut response = text("hello");
        let status = request.uri().path().get(1..4).unwrap().parse().unwrap();
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if request.uri().path().ends_with("own") {
            let own = hyper::ext::ReasonPhrase::from_static(b"Odd, but fine");
            response.extensions_mut().insert(own);
        }
        response
    })
    .await;
    let mut client = server.connect().await;
    for (path, line) in [
        ("/200", "HTTP/1.1 200 OK"),
        ("/404", "HTTP/1.1 404 Not Found"),
        // No name is better than one that the library makes up.
        ("/299", "HTTP/1.1 299 "),
        ("/599", "HTTP/1.1 599 "),
        ("/299own", "HTTP/1.1 299 Odd, but fine"),
        ("/200own", "HTTP/1.1 200 Odd, but fine"),
    ] {
        let answer = client.ask(get(path)).await;
        assert_eq!(answer.head.lines().next(), Some(line));
        assert_eq!(answer.text(), "hello");
    }
}

#[tokio::test]
async fn methods_that_are_about_the_server_are_its_own() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let answer = client.ask("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("allow").is_some());
    assert!(answer.header("content-length").is_none());
    let answer = client.ask("OPTIONS /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.text().starts_with("OPTIONS http://a/x\n"));
    for request in [
        "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        let answer = client.ask(request).await;
        assert_eq!(answer.status, 405, "{request}");
        client.closed().await;
    }
    let mut client = server.connect().await;
    assert_eq!(
        client.ask("GET * HTTP/1.1\r\nhost: a\r\n\r\n").await.status,
        400
    );
}

#[tokio::test]
async fn response_is_made_right_whatever_the_target_says() {
    let server = Server::one(async |request: Request<Body>| {
        let mut response = text("hello");
        let headers = response.headers_mut();
        match request.uri().path() {
            "/hops" => {
                headers.insert("connection", HeaderValue::from_static("x-own"));
                headers.insert("x-own", HeaderValue::from_static("1"));
                headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
                headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
                headers.insert("upgrade", HeaderValue::from_static("h2c"));
            }
            "/length" => {
                headers.insert("content-length", HeaderValue::from_static("99"));
            }
            "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/same" => *response.status_mut() = StatusCode::NOT_MODIFIED,
            "/interim" => *response.status_mut() = StatusCode::PROCESSING,
            "/switch" => *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS,
            _ => {}
        }
        response
    })
    .await;
    let mut client = server.connect().await;
    let answer = client.ask(get("/hops")).await;
    for name in [
        "connection",
        "x-own",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.text(), "hello");
    assert_eq!(
        client.ask(get("/length")).await.header("content-length"),
        Some("5")
    );
    let answer = client.ask(get("/none")).await;
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (204, None)
    );
    assert_eq!(client.ask(get("/same")).await.status, 304);
    assert_eq!(client.ask(get("/interim")).await.status, 502);
    assert_eq!(client.ask(get("/switch")).await.status, 502);
    assert_eq!(client.ask(get("/")).await.text(), "hello");
}

#[tokio::test]
async fn body_that_is_not_as_long_as_promised_cuts_the_connection() {
    let server = Server::one(async |request: Request<Body>| {
        let (sender, body) = fed();
        let long = request.uri().path() == "/long";
        tokio::spawn(async move {
            let _ = sender.send(Ok(Frame::data(Bytes::from("12345")))).await;
            if long {
                let _ = sender.send(Ok(Frame::data(Bytes::from("67890")))).await;
            }
        });
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert("content-length", HeaderValue::from_static("7"));
        response
    })
    .await;
    for path in ["/long", "/short"] {
        let mut client = server.connect().await;
        client.send(get(path)).await;
        client.head().await;
        let rest = client.rest().await;
        assert!(b"12345".starts_with(&rest), "{path}: {rest:?}");
    }
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 2)
        .await;
    assert!(
        recorded
            .requests
            .iter()
            .all(|record| record.outcome == Outcome::BodyFailed)
    );
}

#[tokio::test]
async fn problem_has_the_form_that_the_client_takes() {
    let server = Server::one(async |_request: Request<Body>| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The site is busy.")
            .retry_after(std::time::Duration::from_millis(1500))
            .into_response()
    })
    .await;
    let mut client = server.connect().await;
    let answer = client.ask(get("/")).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("2"))
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        answer
            .text()
            .starts_with("503 Service Unavailable\nThe site is busy.\n")
    );
    let answer = client
        .ask("GET / HTTP/1.1\r\nhost: a\r\naccept: application/json\r\n\r\n")
        .await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], 503);
    assert_eq!(problem["detail"], "The site is busy.");
}

#[tokio::test]
async fn client_takes_no_header_of_the_gateway_away() {
    let server = Server::one(echo).await;
    let mut client = server.connect().await;
    let names = "cf-connecting-ip, x-forwarded-for, X-Forwarded-Proto, x-request-id, x-own";
    let answer = client
        .ask(format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx-own: 1\r\nx-request-id: mine\r\nconnection: {names}\r\n\r\n"
        ))
        .await;
    let id = answer.header("x-request-id").unwrap();
    let expected = format!(
        "GET http://a/\ncf-connecting-ip: 127.0.0.1\nhost: a\nx-forwarded-for: 127.0.0.1\n\
         x-forwarded-proto: http\nx-request-id: {id}\n\n"
    );
    assert_eq!(answer.text(), expected);
    // Nor with a WebSocket.
    let answer = client
        .ask(format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, {names}\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
    let text = answer.text();
    assert!(text.contains("\ncf-connecting-ip: 127.0.0.1\n"), "{text}");
    assert!(text.contains("\nx-forwarded-for: 127.0.0.1\n"), "{text}");
    assert!(text.contains("\nupgrade: websocket\n"), "{text}");
}

#[tokio::test]
async fn target_learns_who_asks() {
    let server = Server::one(async |request: Request<Body>| {
        let client = request.extensions().get::<Client>().unwrap();
        text(format!(
            "{} {} {}",
            client.address,
            client.secure.is_some(),
            client.upgrade
        ))
    })
    .await;
    let mut client = server.connect().await;
    let address = client.stream.local_addr().unwrap();
    assert_eq!(
        client.ask(get("/")).await.text(),
        format!("{address} false false")
    );
}
