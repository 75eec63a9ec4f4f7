//! HTTP/2 (RFC 9113): a real client for what is meant, bare frames for what is not.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stockade_gateway::{Limits, Outcome, Refusal};
use stockade_http::Body;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::harness::*;

type Client = http2::SendRequest<Full<Bytes>>;

async fn client(server: &Server) -> Client {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://a.example{path}"))
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

async fn ask(client: &mut Client, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let response = soon(client.send_request(request)).await.unwrap();
    let status = response.status();
    let body = soon(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn request_reaches_the_target_and_its_answer_the_client() {
    let server = Server::one(echo).await;
    let mut client = client(&server).await;
    let mut post = request(Method::POST, "/%61/../b?x", "hello");
    post.headers_mut().append("cookie", "a=1".parse().unwrap());
    post.headers_mut().append("cookie", "b=2".parse().unwrap());
    let (status, text) = ask(&mut client, post).await;
    assert_eq!(status, 200);
    assert!(text.starts_with("POST http://a.example/b?x\n"), "{text}");
    assert!(text.contains("\nhost: a.example\n"), "{text}");
    assert!(text.contains("\ncookie: a=1; b=2\n"), "{text}");
    assert!(text.ends_with("\n\nhello"), "{text}");
    let record = server.log.request().await;
    assert_eq!(
        (record.version, record.outcome),
        (Version::HTTP_2, Outcome::Complete)
    );
    assert_eq!(record.host.as_deref(), Some("a.example"));
}

#[tokio::test]
async fn cookies_in_many_pieces_are_one_field() {
    let server = Server::one(echo).await;
    let mut client = client(&server).await;
    let mut many = request(Method::GET, "/", "");
    for number in 0..150 {
        let cookie = format!("c{number}={number}").parse().unwrap();
        many.headers_mut().append("cookie", cookie);
    }
    let (status, text) = ask(&mut client, many).await;
    assert_eq!(status, 200);
    assert!(text.contains("\ncookie: c0=0; c1=1; c2=2; "), "{text}");
    assert!(text.contains("; c149=149\n"), "{text}");
    // Other fields are still counted.
    let mut many = request(Method::GET, "/", "");
    for _ in 0..150 {
        many.headers_mut().append("x-own", "1".parse().unwrap());
    }
    let (status, _) = ask(&mut client, many).await;
    assert_eq!(status, 431);
}

#[tokio::test]
async fn length_of_a_body_is_sent_whatever_the_target_says() {
    let server = Server::one(async |request: Request<Body>| {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let mut response = text(path);
        let length = http::HeaderValue::from_static("99");
        response.headers_mut().insert("content-length", length);
        response
    })
    .await;
    let mut client = client(&server).await;
    for (path, length) in [("/hello", "5"), ("/", "0")] {
        let response = soon(client.send_request(request(Method::GET, path, "")))
            .await
            .unwrap();
        assert_eq!(response.headers()["content-length"], length, "{path}");
    }
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let server = Server::one(hello).await;
    let mut client = client(&server).await;
    let response = client
        .send_request(request(Method::HEAD, "/", ""))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[tokio::test]
async fn slow_stream_holds_no_other_up() {
    let server = Server::one(async |request: Request<Body>| {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        text("fast")
    })
    .await;
    let mut client = client(&server).await;
    let _slow: Vec<_> = (0..50)
        .map(|_| client.send_request(request(Method::GET, "/slow", "")))
        .collect();
    for _ in 0..50 {
        assert_eq!(
            ask(&mut client, request(Method::GET, "/", "")).await.1,
            "fast"
        );
    }
}

#[tokio::test]
async fn stream_that_the_client_gives_up_ends_the_work_for_it() {
    struct DropNotice(mpsc::UnboundedSender<()>);
    impl Drop for DropNotice {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (notice, mut notices) = mpsc::unbounded_channel();
    let server = Server::one(move |_request: Request<Body>| {
        let notice = notice.clone();
        async move {
            let _notice = DropNotice(notice.clone());
            notice.send(()).unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut client = client(&server).await;
    let pending = client.send_request(request(Method::GET, "/", ""));
    let pending = tokio::spawn(pending);
    soon(notices.recv()).await.unwrap();
    pending.abort();
    soon(notices.recv()).await.unwrap();
    assert_eq!(server.log.request().await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn body_that_is_too_large_is_refused() {
    let limits = Limits {
        max_body: 1000,
        ..Limits::default()
    };
    let server = Server::limited(echo, limits).await;
    let mut client = client(&server).await;
    let (status, _) = ask(&mut client, request(Method::POST, "/", &"x".repeat(1001))).await;
    assert_eq!(status, 413);
    let (status, _) = ask(&mut client, request(Method::POST, "/", &"x".repeat(1000))).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn stream_of_a_client_that_still_sends_is_not_reset_with_the_answer() {
    let limits = Limits {
        max_body: 5,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    // A target that reads nothing, and a body that is refused before the target or while it is read.
    for length in ["", "\x0f\x0d\x019"] {
        let mut frames = Frames::connect(&server).await;
        let post = [&[0x83, 0x86, 0x84, 0x41, 0x01, b'a'], length.as_bytes()].concat();
        frames.send(HEADERS, END_HEADERS, 1, &post).await;
        let ends = |kind, flags, stream| kind == DATA && flags & END_STREAM > 0 && stream == 1;
        frames
            .until(|kind, flags, stream, _| ends(kind, flags, stream))
            .await;
        frames.send(DATA, 0, 1, b"12345").await;
        frames.send(DATA, END_STREAM, 1, b"6789").await;
        frames.send(PING, 0, 0, &[7; 8]).await;
        frames
            .until(|kind, flags, _, _| {
                assert_ne!(kind, RST_STREAM, "the stream was reset");
                kind == PING && flags & ACK > 0
            })
            .await;
    }
}

#[tokio::test]
async fn header_list_that_is_too_large_is_refused() {
    let limits = Limits {
        header_bytes: 8192,
        headers: 20,
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut many = request(Method::GET, "/", "");
    for number in 0..30 {
        many.headers_mut().append("x", number.into());
    }
    let mut one = client(&server).await;
    assert_eq!(ask(&mut one, many).await.0, 431);
    let mut frames = Frames::connect(&server).await;
    // One field of 9,000 bytes, not compressed, in two frames.
    let mut block = GET_ROOT.to_vec();
    block.extend([0x00, 0x01, b'x', 0x7f]);
    block.extend([0xa9, 0x45]);
    block.extend([b'y'; 9000]);
    let (first, second) = block.split_at(8000);
    frames.send(HEADERS, END_STREAM, 1, first).await;
    frames.send(CONTINUATION, END_HEADERS, 1, second).await;
    let answer = frames
        .until(|kind, _, stream, _| kind == HEADERS && stream == 1)
        .await;
    // `:status: 431`, the value in Huffman's code (RFC 7541, section 6.2.1).
    assert_eq!(answer, [0x48, 0x83, 0x69, 0x90, 0xff]);
}

#[tokio::test]
async fn drain_says_goaway_and_lets_streams_end() {
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let turns = std::sync::Arc::clone(&permits);
    let server = Server::one(move |_request: Request<Body>| {
        let (turns, begun) = (std::sync::Arc::clone(&turns), begun.clone());
        async move {
            begun.send(()).unwrap();
            turns.acquire().await.unwrap().forget();
            text("done")
        }
    })
    .await;
    let mut client = client(&server).await;
    let running = tokio::spawn(client.send_request(request(Method::GET, "/", "")));
    soon(has_begun.recv()).await.unwrap();
    let gateway = server.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    soon(async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    permits.add_permits(1);
    let response = soon(running).await.unwrap().unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "done"
    );
    let drained = soon(drained).await.unwrap();
    assert_eq!((drained.ended, drained.cut), (1, 0));
    assert!(soon(client.ready()).await.is_err());
}

#[tokio::test]
async fn drain_cuts_streams_that_do_not_end() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let server = Server::one(move |_request: Request<Body>| {
        begun.send(()).unwrap();
        std::future::pending()
    })
    .await;
    let mut client = client(&server).await;
    let running = tokio::spawn(client.send_request(request(Method::GET, "/", "")));
    soon(has_begun.recv()).await.unwrap();
    let drained = server.gateway.drain(Duration::from_millis(200)).await;
    assert_eq!((drained.ended, drained.cut), (0, 1));
    assert!(soon(running).await.unwrap().is_err());
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 1)
        .await;
    assert_eq!(recorded.requests[0].outcome, Outcome::ClientGone);
    assert_eq!(server.gateway.stats().connections, 0);
}

#[tokio::test]
async fn listener_without_http2_does_not_speak_it() {
    let listener = stockade_gateway::Listener {
        http2: false,
        ..listener()
    };
    let route = stockade_gateway::Route::new(
        "all",
        vec![stockade_gateway::Pattern::any()],
        std::sync::Arc::new(hello),
    );
    let server = Server::start(listener, table(vec![route]), Limits::default()).await;
    let mut raw = server.connect().await;
    raw.send(PREFACE).await;
    let rest = String::from_utf8(raw.rest().await).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
        "{rest}"
    );
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http://a/`: three indexed fields, and `:authority` as a literal (RFC 7541).
const GET_ROOT: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// A client that sends frames.
struct Frames(Raw);

impl Frames {
    async fn connect(server: &Server) -> Self {
        let mut frames = Self(server.connect().await);
        frames.0.send(PREFACE).await;
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(Self::frame(kind, flags, stream, payload)).await;
    }

    /// Sends as much as is taken.
    async fn flood(&mut self, frame: impl Fn(u32) -> Vec<u8>) {
        use tokio::io::AsyncWriteExt;
        for number in 0..20_000 {
            if self.0.stream.write_all(&frame(number)).await.is_err() {
                return;
            }
        }
    }

    /// Reads to a frame that fits; its payload.
    async fn until(&mut self, fits: impl Fn(u8, u8, u32, &[u8]) -> bool) -> Vec<u8> {
        loop {
            let head = self.0.exactly(9).await;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let payload = self.0.exactly(length.try_into().unwrap()).await;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if fits(head[3], head[4], stream, &payload) {
                return payload;
            }
        }
    }
}

async fn flooded(frame: impl Fn(u32) -> Vec<u8>, limits: Limits) -> Vec<Refusal> {
    let server = Server::limited(hello, limits).await;
    let mut frames = Frames::connect(&server).await;
    frames.flood(frame).await;
    let _: Vec<u8> = frames.0.rest().await;
    server
        .log
        .until(|recorded| recorded.closed == 1)
        .await
        .refusals
}

#[tokio::test]
async fn frames_in_a_flood_end_the_connection() {
    let limits = || Limits {
        h2_control_frames: 100,
        ..Limits::default()
    };
    let one = |kind, flags, stream, payload: &'static [u8]| {
        move |_| Frames::frame(kind, flags, stream, payload)
    };
    let frame_flood = [Refusal::FrameFlood];
    assert_eq!(
        flooded(one(PING, 0, 0, &[0; 8]), limits()).await,
        frame_flood
    );
    assert_eq!(
        flooded(one(SETTINGS, 0, 0, &[]), limits()).await,
        frame_flood
    );
    assert_eq!(
        flooded(one(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), limits()).await,
        frame_flood
    );
    assert_eq!(flooded(one(99, 0, 0, &[]), limits()).await, frame_flood);
    assert_eq!(
        flooded(one(2, 0, 1, &[0, 0, 0, 3, 7]), limits()).await,
        frame_flood
    );
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    // CVE-2023-44487: streams that are reset as soon as they are opened.
    let target = async |_request: Request<Body>| std::future::pending().await;
    let server = Server::limited(target, Limits::default()).await;
    let mut frames = Frames::connect(&server).await;
    frames
        .flood(|number| {
            let stream = 2 * number + 1;
            let mut both = Frames::frame(HEADERS, END_HEADERS | END_STREAM, stream, GET_ROOT);
            both.extend(Frames::frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            both
        })
        .await;
    let _: Vec<u8> = frames.0.rest().await;
    let recorded = server.log.until(|recorded| recorded.closed == 1).await;
    assert!(
        recorded.requests.len() < 5000,
        "{} requests got through",
        recorded.requests.len()
    );
    assert_eq!(server.gateway.stats().requests, 0);
}

#[tokio::test]
async fn header_block_without_end_ends_the_connection() {
    // CVE-2024-27316: CONTINUATION frames that never end.
    let server = Server::limited(hello, Limits::default()).await;
    let mut frames = Frames::connect(&server).await;
    frames.send(HEADERS, END_STREAM, 1, GET_ROOT).await;
    frames
        .flood(|_| {
            let mut block = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x07];
            block.extend([b'y'; 1024]);
            Frames::frame(CONTINUATION, 0, 1, &block)
        })
        .await;
    let _: Vec<u8> = frames.0.rest().await;
    server.log.until(|recorded| recorded.closed == 1).await;
}

#[tokio::test]
async fn header_block_that_dribbles_ends_the_connection() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut frames = Frames::connect(&server).await;
    frames.send(HEADERS, END_STREAM, 1, GET_ROOT).await;
    let recorded = server.log.until(|recorded| recorded.closed == 1).await;
    assert_eq!(recorded.refusals, [Refusal::HeaderTimeout]);
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let limits = Limits {
        h2_streams: 5,
        ..Limits::default()
    };
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let target = move |_request: Request<Body>| {
        begun.send(()).unwrap();
        std::future::pending()
    };
    let server = Server::limited(target, limits).await;
    let mut frames = Frames::connect(&server).await;
    for number in 0..6 {
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, GET_ROOT)
            .await;
    }
    let code = frames
        .until(|kind, _, stream, _| kind == RST_STREAM && stream == 11)
        .await;
    assert_eq!(code, [0, 0, 0, 7], "REFUSED_STREAM");
    for _ in 0..5 {
        soon(has_begun.recv()).await.unwrap();
    }
    assert!(has_begun.try_recv().is_err());
}

#[tokio::test]
async fn client_that_opens_no_window_is_cut_off() {
    let limits = Limits {
        stall_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::limited(
        async |_request: Request<Body>| {
            let chunk = Bytes::from(vec![0; 16 * 1024]);
            let frames = futures_util::stream::repeat_with(move || {
                Ok::<_, stockade_http::BoxError>(http_body::Frame::data(chunk.clone()))
            });
            http::Response::new(http_body_util::StreamBody::new(frames).boxed_unsync())
        },
        Limits {
            body_rate: 1 << 20,
            ..limits
        },
    )
    .await;
    let mut frames = Frames::connect(&server).await;
    frames
        .send(HEADERS, END_HEADERS | END_STREAM, 1, GET_ROOT)
        .await;
    // The connection itself is fine: pings are answered.
    for _ in 0..3 {
        frames.send(PING, 0, 0, &[7; 8]).await;
        frames
            .until(|kind, flags, _, _| kind == PING && flags == ACK)
            .await;
    }
    let recorded = server.log.until(|recorded| recorded.closed == 1).await;
    assert_eq!(recorded.refusals, [Refusal::Stalled]);
}

#[tokio::test]
async fn client_with_small_windows_may_load_much() {
    // Opens both windows after each frame, as simple clients do: no flood, however fast it is.
    let size = 16 << 20;
    let limits = Limits {
        h2_control_frames: 20,
        ..Limits::default()
    };
    let target = move |_request: Request<Body>| async move { text(vec![0; size]) };
    let server = Server::limited(target, limits).await;
    let mut frames = Frames::connect(&server).await;
    frames
        .send(HEADERS, END_HEADERS | END_STREAM, 1, GET_ROOT)
        .await;
    let mut read = 0;
    while read < size {
        let data = frames.until(|kind, _, _, _| kind == DATA).await;
        read += data.len();
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        let mut both = Frames::frame(WINDOW_UPDATE, 0, 0, &length);
        both.extend(Frames::frame(WINDOW_UPDATE, 0, 1, &length));
        if read < size {
            frames.0.send(both).await;
        }
    }
    assert!(server.log.now().refusals.is_empty());
}

#[tokio::test]
async fn idle_connection_gets_goaway() {
    let limits = Limits {
        idle_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::limited(hello, limits).await;
    let mut frames = Frames::connect(&server).await;
    frames
        .send(HEADERS, END_HEADERS | END_STREAM, 1, GET_ROOT)
        .await;
    frames
        .until(|kind, _, stream, _| kind == DATA && stream == 1)
        .await;
    frames.until(|kind, _, _, _| kind == GOAWAY).await;
    let _: Vec<u8> = frames.0.rest().await;
    assert!(
        server
            .log
            .until(|recorded| recorded.closed == 1)
            .await
            .refusals
            .is_empty()
    );
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    // Fields that HTTP/2 forbids (RFC 9113, section 8.2.2), in upper case, or pseudo-fields twice.
    let literal = |name: &[u8], value: &[u8]| {
        let mut field = vec![0x00, u8::try_from(name.len()).unwrap()];
        field.extend(name);
        field.push(u8::try_from(value.len()).unwrap());
        field.extend(value);
        field
    };
    let server = Server::one(hello).await;
    for bad in [
        literal(b"connection", b"close"),
        literal(b"transfer-encoding", b"chunked"),
        literal(b"X-Upper", b"1"),
        literal(b":path", b"/other"),
        literal(b":unknown", b"x"),
        literal(b"x", b"a\r\nb: c"),
        literal(b"te", b"gzip"),
    ] {
        let mut frames = Frames::connect(&server).await;
        let block = [GET_ROOT, &bad].concat();
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &block)
            .await;
        frames
            .until(|kind, _, _, _| kind == RST_STREAM || kind == GOAWAY)
            .await;
    }
    // A body that is not as long as its content-length.
    let mut frames = Frames::connect(&server).await;
    let block = [
        &[0x83, 0x86, 0x84, 0x41, 0x01, b'a'],
        &literal(b"content-length", b"3")[..],
    ]
    .concat();
    frames.send(HEADERS, END_HEADERS, 1, &block).await;
    frames.send(DATA, END_STREAM, 1, b"hello").await;
    frames
        .until(|kind, _, _, _| kind == RST_STREAM || kind == GOAWAY)
        .await;
}
