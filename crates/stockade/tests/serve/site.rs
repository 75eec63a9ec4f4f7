//! A site as its clients see it: code, requests, responses, streams, WebSockets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, http2, open, post, run, send, websocket, whole, with_body};
use crate::server::{PLAIN, Server};

#[test]
fn site_in_typescript_of_several_modules_answers() {
    let server = Server::start(
        &format!("{PLAIN}instances:\n  site:\n    code: ./site\n    urls: [\"/*\"]\n"),
        &[
            (
                "site/index.ts",
                "import { greet } from './lib/greet.ts';
                 import words from './words.json' with { type: 'json' };
                 interface Env { }
                 export default {
                   async fetch(request: Request, env: Env): Promise<Response> {
                     const url: URL = new URL(request.url);
                     return Response.json({ text: greet(words.hello, url.pathname as string), method: request.method });
                   },
                 };",
            ),
            (
                "site/lib/greet.ts",
                "export const greet = (word: string, name: string): string => `${word} ${name}`;",
            ),
            ("site/words.json", r#"{ "hello": "servus" }"#),
        ],
    );
    run(async {
        let answer = server.get("a.example", "/you?x=1").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.json(),
            json!({ "text": "servus /you", "method": "GET" })
        );
        // The gateway is the only one who speaks for itself.
        assert!(!answer.header("x-request-id").is_empty());
    });
}

#[test]
fn site_sees_the_request_as_it_was_sent() {
    let server = Server::site(
        "export default { async fetch(request) {
           return Response.json({
             url: request.url, method: request.method, body: await request.text(),
             a: request.headers.get('x-a'), forwarded: request.headers.get('x-forwarded-for'),
             ip: request.cf?.clientIp ?? null,
           }, { status: 201, headers: [['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['x-b', 'c']] });
         } };",
        "",
    );
    run(async {
        let mut request = post("b.example:81", "/p%20q?r=%2F", "body ü");
        request.headers_mut().insert("x-a", "1".parse().unwrap());
        let forged = "198.51.100.1".parse().unwrap();
        request.headers_mut().insert("x-forwarded-for", forged);
        let answer = send(server.address(), request).await;
        assert_eq!(answer.status, 201, "{}", server.log_text());
        let seen = answer.json();
        assert_eq!(seen["url"], "http://b.example:81/p%20q?r=%2F");
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["body"], "body ü");
        assert_eq!(seen["a"], "1");
        assert_ne!(seen["forwarded"], "198.51.100.1");
        assert_eq!(seen["ip"], "127.0.0.1");
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(answer.header("x-b"), "c");
        let head = send(server.address(), with_body("HEAD", "b.example", "/", "")).await;
        assert_eq!((head.status, head.body.len()), (201, 0));
        // Nor does a client take away what the gateway says.
        let mut request = post("b.example", "/", "");
        let names = "close, cf-connecting-ip, x-forwarded-for, x-forwarded-proto, x-request-id";
        request
            .headers_mut()
            .insert("connection", names.parse().unwrap());
        let seen = send(server.address(), request).await.json();
        assert_eq!(seen["forwarded"], "127.0.0.1");
    });
}

#[test]
fn status_text_of_a_site_reaches_its_clients() {
    let server = Server::site(
        "export default { fetch(request) {
           const { pathname } = new URL(request.url);
           const init = { status: 299, statusText: pathname === '/own' ? 'Odd, but fine' : '' };
           return pathname === '/stream'
             ? new Response(new Blob(['a']).stream(), { ...init, statusText: 'Streamed' })
             : new Response('a', init);
         } };",
        "",
    );
    run(async {
        for (path, line) in [
            ("/own", "HTTP/1.1 299 Odd, but fine\r\n"),
            ("/stream", "HTTP/1.1 299 Streamed\r\n"),
            ("/", "HTTP/1.1 299 \r\n"),
        ] {
            let head = raw_head(server.address(), path).await;
            assert!(head.starts_with(line), "{path}: {head}");
        }
    });
}

/// The head of the answer to a GET, as it came.
async fn raw_head(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn site_serves_http2_and_many_requests_at_once() {
    let server = Server::site(
        "let n = 0; export default { async fetch(request) {
           await new Promise(done => setTimeout(done, 1));
           return new Response(`${new URL(request.url).pathname} ${++n > 0}`);
         } };",
        "    mirrors: 2\n",
    );
    run(async {
        let sender = http2(server.address()).await;
        let requests = (0..200).map(|number| {
            let mut sender = sender.clone();
            async move {
                let uri = format!("http://a.example/{number}");
                let mut request = get("a.example", "/");
                *request.uri_mut() = uri.parse().unwrap();
                request.headers_mut().remove("host");
                sender.ready().await.unwrap();
                let answer = whole(sender.send_request(request).await.unwrap()).await;
                assert_eq!(answer.text(), format!("/{number} true"));
            }
        });
        futures_util::future::join_all(requests).await;
    });
}

#[test]
fn body_streams_both_ways_at_once() {
    let server = Server::site(
        "export default { fetch(request) {
           const upper = new TransformStream({ transform(chunk, controller) {
             controller.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase()));
           } });
           return new Response(request.body.pipeThrough(upper));
         } };",
        "",
    );
    run(async {
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
        let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let chunk = receiver.recv().await?;
            let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk)));
            Some((frame, receiver))
        });
        let request = Request::post("/")
            .header("host", "a.example")
            .body(StreamBody::new(Box::pin(chunks)))
            .unwrap();
        sender.send("one").await.unwrap();
        let mut response = open(server.address(), request).await.into_body();
        let mut next = async || {
            let frame = response.frame().await?.unwrap();
            Some(frame.into_data().unwrap())
        };
        // Each piece is back before the next one is sent.
        assert_eq!(next().await.unwrap(), "ONE");
        sender.send("two").await.unwrap();
        assert_eq!(next().await.unwrap(), "TWO");
        drop(sender);
        assert_eq!(next().await, None);
    });
}

#[test]
fn body_that_the_client_does_not_read_stops_the_guest() {
    let server = Server::site(
        "let made = 0; export default { fetch(request) {
           if (new URL(request.url).pathname === '/made') return new Response(String(made));
           return new Response(new ReadableStream({
             pull(controller) { made++; controller.enqueue(new Uint8Array(65536)); },
           }, { highWaterMark: 0 }));
         } };",
        "",
    );
    run(async {
        let mut response = open(server.address(), get("a", "/")).await.into_body();
        response.frame().await.unwrap().unwrap();
        // The same number twice, with as much time between as the guest needs for thousands.
        let mut before = -1;
        loop {
            let made: i64 = server.get("a", "/made").await.text().parse().unwrap();
            if made == before {
                break;
            }
            before = made;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(before < 1000, "{before} pieces of 64 KiB nobody reads");
    });
}

#[test]
fn client_that_goes_away_aborts_the_request() {
    let server = Server::site(
        "let aborted = 0; export default { fetch(request) {
           const { pathname } = new URL(request.url);
           if (pathname === '/aborted') return new Response(String(aborted));
           request.signal.addEventListener('abort', () => { aborted++; });
           if (pathname === '/stream') return new Response(new ReadableStream({
             start(controller) { controller.enqueue(new Uint8Array(8)); },
             cancel() { aborted += 10; },
           }));
           return new Promise(() => {});
         } };",
        "",
    );
    run(async {
        let aborted = async |wanted: i64| loop {
            let text = server.get("a", "/aborted").await.text();
            let now: i64 = text
                .parse()
                .unwrap_or_else(|_| panic!("{text} {}", server.log_text()));
            if now >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let in_flight = "stockade_requests_in_flight{instance=\"site\"}";
        tokio::select! {
            answer = send(server.address(), get("a", "/never")) => panic!("{answer:?}"),
            _ = server.until(in_flight, |now| now == 1.0) => {}
        }
        aborted(1).await;
        let mut response = open(server.address(), get("a", "/stream")).await;
        response.frame().await.unwrap().unwrap();
        drop(response);
        aborted(11).await;
    });
}

#[test]
fn websocket_reaches_the_guest_and_closes() {
    let server = Server::site(
        "export default { fetch(request) {
           if (request.headers.get('upgrade') !== 'websocket') return new Response('no', { status: 426 });
           const { 0: client, 1: server } = new WebSocketPair();
           server.accept();
           server.addEventListener('message', ({ data }) => {
             if (data === 'bye') server.close(4001, 'as you wish');
             else server.send(typeof data === 'string' ? `echo ${data}` : data);
           });
           server.send('welcome');
           return new Response(null, { status: 101, webSocket: client });
         } };",
        "",
    );
    run(async {
        assert_eq!(server.get("a", "/").await.status, 426);
        let mut socket = websocket(server.address(), "a.example").await;
        let mut next = async |message: Option<Message>| {
            if let Some(message) = message {
                socket.send(message).await.unwrap();
            }
            socket.next().await.unwrap().unwrap()
        };
        assert_eq!(next(None).await, Message::text("welcome"));
        assert_eq!(
            next(Some(Message::text("ü"))).await,
            Message::text("echo ü")
        );
        let bytes = Message::binary(vec![0, 1, 255]);
        assert_eq!(next(Some(bytes.clone())).await, bytes);
        let Message::Close(Some(close)) = next(Some(Message::text("bye"))).await else {
            panic!("it does not close");
        };
        assert_eq!(u16::from(close.code), 4001);
        assert_eq!(close.reason.as_str(), "as you wish");
    });
}

#[test]
fn websocket_that_the_guest_closes_keeps_its_order_and_receives_the_end() {
    let server = Server::site(
        "const log = [];
         export default { fetch(request) {
           if (request.headers.get('upgrade') !== 'websocket') return Response.json(log);
           const [client, server] = new WebSocketPair();
           server.accept();
           server.addEventListener('close', ({ code, reason, wasClean }) =>
             log.push([code, reason, wasClean, server.readyState]));
           server.addEventListener('message', ({ data }) => {
             server.send(new Blob(['one']));
             server.send('two');
             server.send(new Blob(['three']));
             if (data === 'no code') server.close();
             else server.close(4001, data);
             log.push(server.readyState, server.bufferedAmount);
           });
           return new Response(null, { status: 101, webSocket: client });
         } };",
        "",
    );
    run(async {
        for (said, code) in [("no code", None), ("why", Some(4001))] {
            let mut socket = websocket(server.address(), "a.example").await;
            socket.send(Message::text(said)).await.unwrap();
            let mut next = async || socket.next().await.unwrap().unwrap();
            assert_eq!(next().await, Message::binary("one"));
            assert_eq!(next().await, Message::text("two"));
            assert_eq!(next().await, Message::binary("three"));
            let Message::Close(frame) = next().await else {
                panic!("it does not close");
            };
            assert_eq!(frame.map(|frame| u16::from(frame.code)), code);
            while let Some(Ok(_)) = socket.next().await {}
        }
        let log = loop {
            let log = server.get("a", "/").await.json();
            if log.as_array().unwrap().len() == 6 {
                break log;
            }
        };
        let expected = json!([2, 11, [1005, "", true, 3], 2, 11, [4001, "why", true, 3],]);
        assert_eq!(log, expected);
    });
}

#[test]
fn wait_until_goes_on_after_the_response() {
    let server = Server::site(
        "let done = 0; export default { fetch(request, env, ctx) {
           if (new URL(request.url).pathname === '/done') return new Response(String(done));
           ctx.waitUntil(new Promise(wait => setTimeout(wait, 50)).then(() => { done++; }));
           return new Response('soon');
         } };",
        "",
    );
    run(async {
        assert_eq!(server.get("a", "/").await.text(), "soon");
        while server.get("a", "/done").await.text() != "1" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn handler_that_throws_is_500_and_names_nothing() {
    let server = Server::site(
        "export default { fetch(request) {
           const { pathname } = new URL(request.url);
           if (pathname === '/throw') throw new Error('the inner secret');
           if (pathname === '/nothing') return;
           return new Response('well');
         } };",
        "",
    );
    run(async {
        for path in ["/throw", "/nothing"] {
            let answer = server.get("a", path).await;
            assert_eq!(answer.status, 500, "{path}");
            assert!(!answer.text().contains("secret"), "{}", answer.text());
        }
        assert_eq!(server.get("a", "/").await.text(), "well");
    });
    let line = server.logged(|line| line["event"] == "request_failed");
    assert!(line["error"].as_str().unwrap().contains("the inner secret"));
}
