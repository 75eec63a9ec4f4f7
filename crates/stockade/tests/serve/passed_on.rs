//! Bodies that a handler passes on untouched: they go on without it, and everything holds as before.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;

use crate::client::{get, open, post, run, send, try_open, with_body};
use crate::server::{PLAIN, Server};

const ORIGIN: &str = "
    const piece = new Uint8Array(50_000);
    for (let i = 0; i < piece.length; i++) piece[i] = i % 251;
    export default { fetch(request) {
        const { pathname } = new URL(request.url);
        if (pathname.endsWith('/endless')) {
            return new Response(new ReadableStream({
                pull(c) { c.enqueue(piece) }, cancel() { console.log('origin was cancelled') },
            }));
        }
        let left = 60;
        return new Response(new ReadableStream({
            pull(c) {
                if (left === 30 && pathname.endsWith('/breaks')) return c.error(new Error('broken'));
                c.enqueue(piece);
                if (--left === 0) c.close();
            },
        }), { status: 203, headers: { 'x-origin': '1' } });
    } }";

const FRONT: &str = "
    export default { async fetch(request, env) {
        const { pathname } = new URL(request.url);
        if (pathname.startsWith('/echo')) return new Response(request.body);
        if (pathname.startsWith('/assets')) return env.ASSETS.fetch('http://assets/large.bin');
        const response = await env.origin.fetch(request);
        if (pathname.startsWith('/copy')) return new Response(response.body, response);
        if (pathname.startsWith('/through')) {
            return new Response(response.body.pipeThrough(new TransformStream()), response);
        }
        if (pathname.startsWith('/short')) {
            return new Response(response.body, { headers: { 'content-length': '10' } });
        }
        return response;
    } }";

/// Bytes of what the origin sends.
const SIZE: usize = 3_000_000;

fn server() -> Server {
    let config = format!(
        "{PLAIN}instances:
  origin: {{code: ./origin.js, urls: [origin.example]}}
  front:
    code: ./front.js
    urls: [front.example]
    assets: {{folder: ./assets, binding: ASSETS}}
    bindings: {{origin: origin}}
    limits: {{max_body: 4mb}}
"
    );
    let files = [
        ("origin.js", ORIGIN),
        ("front.js", FRONT),
        ("assets/none.txt", ""),
    ];
    let folder = crate::server::folder(&config, &files);
    std::fs::write(folder.path().join("assets/large.bin"), content()).unwrap();
    Server::start_in(folder, &std::collections::BTreeMap::new())
}

fn content() -> Vec<u8> {
    let piece: Vec<u8> = (0..50_000_u32).map(|i| (i % 251) as u8).collect();
    piece.repeat(60)
}

#[test]
fn body_that_is_passed_on_arrives_whole() {
    let server = server();
    run(async {
        for path in ["/", "/copy", "/through"] {
            let answer = server.get("front.example", path).await;
            assert_eq!(
                (path, answer.status, answer.header("x-origin")),
                (path, 203, "1")
            );
            assert_eq!(answer.body.len(), SIZE, "{path}");
            assert!(answer.body == content(), "{path}");
        }
        let asset = server.get("front.example", "/assets").await;
        assert!(asset.body == content(), "{}", asset.body.len());
        let head = with_body("HEAD", "front.example", "/", "");
        assert_eq!(send(server.address(), head).await.body.len(), 0);
    });
}

#[test]
fn body_that_is_passed_on_ends_with_its_client() {
    let server = server();
    run(async {
        for path in ["/endless", "/through/endless"] {
            let mut response = open(server.address(), get("front.example", path)).await;
            assert!(response.body_mut().frame().await.is_some());
        }
    });
    let cancelled = || {
        server
            .log(|line| line.to_string().contains("origin was cancelled"))
            .len()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while cancelled() < 2 {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            server.log_text()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn body_stays_with_the_handler_only_where_a_signal_of_its_own_may_end_it() {
    let front = "
      export default { async fetch(request, env) {
        const { pathname } = new URL(request.url);
        request.signal.addEventListener('abort', () => console.log(`aborted ${pathname}`));
        const stop = new AbortController();
        const signal = pathname === '/any' ? AbortSignal.any([stop.signal, request.signal]) : undefined;
        const target = 'http://origin/endless';
        return env.origin.fetch(
          pathname === '/same/endless' ? request : pathname === '/new' ? new Request(target, request) : target, { signal });
      } }";
    let config = format!(
        "{PLAIN}instances:
  origin: {{code: ./origin.js, urls: [origin.example]}}
  front:
    code: ./front.js
    urls: [front.example]
    bindings: {{origin: origin}}
"
    );
    let server = Server::start(&config, &[("origin.js", ORIGIN), ("front.js", front)]);
    run(async {
        for path in ["/same/endless", "/new", "/any"] {
            let mut response = open(server.address(), get("front.example", path)).await;
            assert!(response.body_mut().frame().await.is_some(), "{path}");
        }
    });
    server.logged(|line| line.to_string().contains("aborted /any"));
    let aborted = server.log(|line| line.to_string().contains("aborted /"));
    assert_eq!(aborted.len(), 1, "{aborted:?}");
}

#[test]
fn body_that_breaks_on_its_way_breaks_for_the_client() {
    let server = server();
    run(async {
        for path in ["/breaks", "/through/breaks"] {
            let response = open(server.address(), get("front.example", path)).await;
            assert_eq!(response.status(), 203);
            assert!(response.into_body().collect().await.is_err(), "{path}");
        }
        // More than its content-length says is not sent.
        let response = open(server.address(), get("front.example", "/short")).await;
        let length = response.headers()["content-length"].clone();
        assert_eq!(length, "10");
        let got = response.into_body().collect().await;
        assert!(got.is_err() || got.is_ok_and(|body| body.to_bytes().len() <= 10));
    });
}

#[test]
fn request_body_that_is_answered_as_it_is_comes_back() {
    let server = server();
    run(async {
        let answer = server.post("front.example", "/echo", content()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == content(), "{}", answer.body.len());
        let small = send(server.address(), post("front.example", "/echo", "small")).await;
        assert_eq!(small.text(), "small");
        // A body of unknown length above the limit.
        let frames = futures_util::stream::iter(0..100)
            .map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![7; 64 << 10]))));
        let request = Request::post("/echo")
            .header("host", "front.example")
            .body(StreamBody::new(frames))
            .unwrap();
        match try_open(server.address(), request).await {
            Ok(response) if response.status() == 200 => {
                assert!(response.into_body().collect().await.is_err());
            }
            Ok(response) => assert_eq!(response.status(), 413),
            // Cut off while the client was still writing.
            Err(error) => assert!(!error.is_parse(), "{error:?}"),
        }
    });
}
