//! What a client can't do: take too long, send too much, open too many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use stockade_gateway::{Limits, Outcome, Pattern, Refusal, Route};
use stockade_http::{Body, BoxError};

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn head_that_dribbles_is_answered_408() {
    let limits = Limits {
        header_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut client = server.connect().await;
    let began = Instant::now();
    let dribble = async {
        client.send("GET / HTTP/1.1\r\n").await;
        loop {
            use tokio::io::AsyncWriteExt;
            if client.stream.write_all(b"x: y\r\n").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if began.elapsed() > PATIENCE {
                panic!("it is still served");
            }
        }
    };
    dribble.await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nhost:").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (408, Some("close"))
    );
    client.closed().await;
    let recorded = server.log.until(|recorded| recorded.closed == 2).await;
    assert_eq!(recorded.refusals, [Refusal::HeaderTimeout; 2]);
}

#[tokio::test]
async fn connection_that_says_nothing_is_closed() {
    let limits = Limits {
        idle_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut silent = server.connect().await;
    silent.closed().await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.status, 200);
    client.closed().await;
    let recorded = server.log.until(|recorded| recorded.closed == 2).await;
    assert!(recorded.refusals.is_empty());
}

#[tokio::test]
async fn connection_that_waits_for_its_answer_is_not_idle() {
    let limits = Limits {
        idle_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(
        async |_request: Request<Body>| {
            tokio::time::sleep(3 * SHORT).await;
            text("late")
        },
        limits,
    )
    .await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.text(), "late");
}

#[tokio::test]
async fn head_that_waits_for_an_earlier_answer_is_not_slow() {
    let limits = Limits {
        header_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(
        async |_request: Request<Body>| {
            tokio::time::sleep(3 * SHORT).await;
            text("late")
        },
        limits,
    )
    .await;
    let mut client = server.connect().await;
    client
        .send(format!("{}GET /2 HTTP/1.1\r\nhost:", get("/1")))
        .await;
    assert_eq!(client.answer().await.text(), "late");
    assert_eq!(client.ask(" a\r\n\r\n").await.text(), "late");
    // From there on it is.
    client.send("GET /3").await;
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test]
async fn head_that_is_too_large_is_refused() {
    let limits = Limits {
        header_bytes: 8192,
        headers: 20,
        uri_bytes: 1000,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let check = async |request: String, status: u16| {
        let mut client = server.connect().await;
        let answer = client.ask(&request).await;
        assert_eq!(
            answer.status,
            status,
            "{}",
            &request[..request.len().min(80)]
        );
        assert_eq!(answer.header("connection"), Some("close"));
        client.closed().await;
    };
    let with = |lines: String| format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
    check(with(format!("x: {}\r\n", "y".repeat(9000))), 431).await;
    check(with(format!("x: {}", "y".repeat(20_000))), 431).await;
    check(with("x: y\r\n".repeat(21)), 431).await;
    check(
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(1000)),
        414,
    )
    .await;
    check(
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(7_000)),
        414,
    )
    .await;
    let mut client = server.connect().await;
    let fits = with("x: y\r\n".repeat(19));
    assert_eq!(client.ask(fits).await.status, 200);
    let recorded = server.log.until(|recorded| recorded.closed == 5).await;
    let large = recorded
        .refusals
        .iter()
        .filter(|refusal| **refusal == Refusal::HeadersTooLarge);
    assert_eq!(large.count(), 3);
}

#[tokio::test]
async fn body_that_is_too_large_is_refused() {
    let limits = Limits {
        max_body: 1000,
        ..Limits::default()
    };
    let server = Server::limited(echo, limits).await;
    let mut client = server.connect().await;
    let answer = client
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n")
        .await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (413, Some("close"))
    );
    client.closed().await;
    // In chunks it is noticed on the way, and the client still gets the answer while it sends.
    let mut client = server.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    client.send(chunk.repeat(200)).await;
    assert_eq!(client.answer().await.status, 413);
    client.rest().await;
    let mut client = server.connect().await;
    let exact = "x".repeat(1000);
    let answer = client
        .ask(format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{exact}"
        ))
        .await;
    assert_eq!(answer.status, 200);
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 3)
        .await;
    assert_eq!(recorded.refusals, [Refusal::BodyTooLarge; 2]);
}

#[tokio::test]
async fn body_is_held_to_what_both_the_gateway_and_the_route_allow() {
    let check = async |of_gateway: u64, of_route: Option<u64>, most: usize| {
        let mut route = Route::new("all", vec![Pattern::any()], Arc::new(echo));
        route.max_body = of_route;
        let limits = Limits {
            max_body: of_gateway,
            ..Limits::default()
        };
        let server = Server::start(listener(), table(vec![route]), limits).await;
        for (length, status) in [(most, 200), (most + 1, 413)] {
            let body = "x".repeat(length);
            let ask = |framing: String, body: String| {
                format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}")
            };
            let whole = ask(format!("content-length: {length}"), body.clone());
            assert_eq!(server.connect().await.ask(whole).await.status, status);
            let chunked = ask(
                "transfer-encoding: chunked".to_owned(),
                format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
            );
            let answer = server.connect().await.ask(chunked).await;
            assert_eq!(answer.status, status);
        }
    };
    check(1000, Some(2000), 1000).await;
    check(2000, Some(1000), 1000).await;
    check(1000, None, 1000).await;
}

#[tokio::test]
async fn body_that_stops_is_answered_408() {
    let limits = Limits {
        body_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(echo, limits).await;
    let mut client = server.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (408, Some("close"))
    );
    client.closed().await;
    let record = server.log.request().await;
    assert_eq!(record.outcome, Outcome::Refused(Refusal::BodyTimeout));
}

#[tokio::test]
async fn body_that_dribbles_is_answered_408() {
    let limits = Limits {
        body_timeout: SHORT,
        body_rate: 1000,
        ..Limits::default()
    };
    let server = Server::limited(echo, limits).await;
    let mut client = server.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n")
        .await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let answer = loop {
        tokio::select! {
            answer = client.answer() => break answer,
            _ = ticks.tick() => {}
        }
        use tokio::io::AsyncWriteExt;
        let _ = client.stream.write_all(b"x").await;
        assert!(began.elapsed() < PATIENCE);
    };
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn target_that_takes_too_long_is_answered_504() {
    let limits = Limits {
        request_timeout: SHORT,
        ..Limits::default()
    };
    let never = async |_request: Request<Body>| std::future::pending::<Response<Body>>().await;
    let server = Server::limited(never, limits).await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.status, 504);
    // The connection is good for more.
    assert_eq!(client.ask(get("/")).await.status, 504);
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 2)
        .await;
    assert!(
        recorded
            .requests
            .iter()
            .all(|record| record.outcome == Outcome::TimedOut)
    );
    assert!(recorded.refusals.is_empty());
}

/// A body without end.
fn endless() -> Response<Body> {
    let chunk = Bytes::from(vec![0; 64 * 1024]);
    let frames = stream::repeat_with(move || Ok::<_, BoxError>(Frame::data(chunk.clone())));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

#[tokio::test]
async fn client_that_does_not_read_is_cut_off() {
    let limits = Limits {
        stall_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(async |_request: Request<Body>| endless(), limits).await;
    let mut client = server.connect().await;
    client.send(get("/")).await;
    let recorded = server.log.until(|recorded| recorded.closed == 1).await;
    assert_eq!(recorded.refusals, [Refusal::Stalled]);
    assert_eq!(recorded.requests[0].outcome, Outcome::ClientGone);
    // What the kernel still had for the client is gone too.
    let mut rest = Vec::new();
    let read = soon(tokio::io::AsyncReadExt::read_to_end(
        &mut client.stream,
        &mut rest,
    ))
    .await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn client_that_reads_a_little_is_cut_off() {
    use tokio::io::AsyncReadExt;
    let limits = Limits {
        stall_timeout: SHORT,
        body_rate: 1 << 30,
        ..Limits::default()
    };
    let server = Server::limited(async |_request: Request<Body>| endless(), limits).await;
    let mut client = server.connect().await;
    client.send(get("/")).await;
    let read = async {
        let mut some = [0; 4096];
        while client
            .stream
            .read(&mut some)
            .await
            .is_ok_and(|read| read > 0)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        recorded = server.log.until(|recorded| recorded.closed == 1) => {
            assert_eq!(recorded.refusals, [Refusal::Stalled]);
        }
        () = read => {}
    }
    server
        .log
        .until(|recorded| recorded.refusals == [Refusal::Stalled])
        .await;
}

#[tokio::test]
async fn target_that_says_nothing_for_long_is_no_stall() {
    let limits = Limits {
        stall_timeout: SHORT,
        idle_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::limited(
        async |_request: Request<Body>| {
            let frames = stream::unfold(0, async |number| {
                if number > 0 {
                    tokio::time::sleep(2 * SHORT).await;
                }
                let frame = Ok::<_, BoxError>(Frame::data(Bytes::from("x")));
                (number < 3).then_some((frame, number + 1))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        },
        limits,
    )
    .await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.text(), "xxx");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        clients.push(client);
    }
    let mut refused = server.connect().await;
    refused.closed().await;
    assert_eq!(server.log.now().refusals, [Refusal::Connections]);
    drop(clients.pop());
    server.log.until(|recorded| recorded.closed >= 1).await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.status, 200);
}

#[tokio::test]
async fn connections_of_one_address_beyond_the_limit_are_closed() {
    let limits = Limits {
        connections_per_address: 2,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut clients = vec![server.connect().await, server.connect().await];
    for client in &mut clients {
        assert_eq!(client.ask(get("/")).await.status, 200);
    }
    server.connect().await.closed().await;
    assert_eq!(server.log.now().refusals, [Refusal::ConnectionsOfAddress]);
    // Another address is another matter.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = Raw::new(socket.connect(server.address).await.unwrap());
    assert_eq!(other.ask(get("/")).await.status, 200);
}

#[tokio::test]
async fn connection_ends_after_its_last_request() {
    let limits = Limits {
        requests_per_connection: 2,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.header("connection"), None);
    assert_eq!(
        client.ask(get("/")).await.header("connection"),
        Some("close")
    );
    client.closed().await;
}

#[tokio::test]
async fn slow_target_holds_nobody_else_up() {
    let server = Server::one(async |request: Request<Body>| {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        text("fast")
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = server.connect().await;
        client.send(get("/slow")).await;
        slow.push(client);
    }
    let mut client = server.connect().await;
    for _ in 0..100 {
        assert_eq!(client.ask(get("/fast")).await.text(), "fast");
    }
}
