//! Handlers written for Cloudflare's Workers with frameworks of npm, bundled by esbuild.
//!
//! `tests/workers` has their sources. They need npm: without it these tests say so and pass, unless `CI`
//! is set.

#![expect(clippy::print_stderr, reason = "says why nothing was tested")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::Request;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, open, post, run, send, with_body};
use crate::server::{PLAIN, Server};

/// The folder of the bundles, made once; `None` where npm is missing.
fn bundles() -> Option<&'static Path> {
    static BUNDLES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let bundles = BUNDLES.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/workers");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("workers");
        let output = Command::new("bash")
            .arg(sources.join("build.sh"))
            .arg(&target)
            .output()
            .unwrap();
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Some(target),
            Some(3) if std::env::var_os("CI").is_none() => {
                eprintln!("not tested: {reported}");
                None
            }
            code => panic!("build.sh ended with {code:?}: {reported}"),
        }
    });
    bundles.as_deref()
}

/// The code of one bundle, if it can be made.
pub(crate) fn bundle(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(bundles()?.join(name)).unwrap())
}

/// A server of one bundle, if it can be made.
fn serve(bundle: &str) -> Option<Server> {
    let code = self::bundle(bundle)?;
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./site/{bundle}
    urls: [\"/*\"]
    env: {{GREETING: Hello}}
    state: {{storage: 1mb}}
  caller:
    code: ./caller.js
    urls: [caller.example]
    bindings: {{site: site}}
state: {{path: ./state.db}}
"
    );
    let caller = "export default { async fetch(request, env) {
        return Response.json(await env.site.greet(new URL(request.url).pathname.slice(1)));
    } }";
    let files = [
        (format!("site/{bundle}"), code),
        ("caller.js".to_owned(), caller.to_owned()),
    ];
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Some(Server::start(&config, &files))
}

fn with_header(
    path: &str,
    name: &'static str,
    value: &str,
) -> Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = get("a.example", path);
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[test]
fn hono_routes_and_reads_requests() {
    let Some(server) = serve("hono.js") else {
        return;
    };
    run(async {
        let home = server.get("a.example", "/").await;
        assert_eq!(home.text(), "Hello from workerd Hello");
        assert_eq!(home.header("x-powered-by"), "Hono");
        let user = server.get("a.example", "/users/5?q=x&a=1&a=2").await;
        assert_eq!(
            user.json(),
            json!({ "id": "5", "q": "x", "all": ["1", "2"] })
        );
        assert_eq!(server.get("a.example", "/users/x").await.status, 404);
        let sub = server.get("a.example", "/sub/page").await;
        assert_eq!(sub.text(), "sub /sub/page");
        let patch = send(
            server.address(),
            with_body("PATCH", "a.example", "/sub/x", ""),
        )
        .await;
        assert_eq!(patch.text(), "PATCH");
        assert_eq!(server.get("a.example", "/mounted/x").await.text(), "/x");
        let missing = server.get("a.example", "/missing").await;
        assert_eq!(
            (missing.status, missing.json()),
            (404, json!({ "missing": "/missing" }))
        );

        let mut echo = post("a.example", "/api/echo", r#"{"a": 1}"#);
        let json_type = "application/json".parse().unwrap();
        echo.headers_mut().insert("content-type", json_type);
        let echo = send(server.address(), echo).await;
        assert_eq!((echo.status, echo.json()), (201, json!({ "a": 1 })));
        let form = "--b\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\nn\r\n--b\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\n\r\nabc\r\n--b--\r\n";
        let mut form = post("a.example", "/form", form);
        let form_type = "multipart/form-data; boundary=b".parse().unwrap();
        form.headers_mut().insert("content-type", form_type);
        form.headers_mut()
            .insert("origin", "http://a.example".parse().unwrap());
        assert_eq!(send(server.address(), form).await.text(), "n f.txt 3 abc");
        for (value, status, text) in [
            ("{\"n\":2}", 200, "{\"twice\":4}"),
            ("{}", 400, "n is a number"),
        ] {
            let mut request = post("a.example", "/validated", value);
            request
                .headers_mut()
                .insert("content-type", "application/json".parse().unwrap());
            let answer = send(server.address(), request).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, text));
        }
        assert_eq!(
            server
                .post("a.example", "/small", "12345678901")
                .await
                .status,
            413
        );
        assert_eq!(
            server.post("a.example", "/small", "123").await.text(),
            "123"
        );
    });
}

#[test]
fn hono_middleware_works() {
    let Some(server) = serve("hono.js") else {
        return;
    };
    run(async {
        let safe = server.get("a.example", "/safe/page").await;
        assert_eq!(safe.header("x-content-type-options"), "nosniff");
        assert_eq!(safe.header("content-type"), "text/html; charset=UTF-8");
        assert!(safe.header("server-timing").contains("region"));
        let api = with_header("/api/echo", "origin", "https://client.example");
        let api = send(server.address(), api).await;
        assert_eq!(
            api.header("access-control-allow-origin"),
            "https://client.example"
        );
        let tag = server
            .get("a.example", "/etag/page")
            .await
            .header("etag")
            .to_owned();
        let same = send(
            server.address(),
            with_header("/etag/page", "if-none-match", &tag),
        )
        .await;
        assert_eq!((same.status, same.body.len()), (304, 0), "{tag}");
        let zip = send(
            server.address(),
            with_header("/zip/page", "accept-encoding", "gzip"),
        )
        .await;
        assert_eq!(zip.header("content-encoding"), "gzip");
        assert_eq!(zip.body[..2], [0x1f, 0x8b]);
        assert_eq!(server.get("a.example", "/auth/page").await.status, 401);
        let basic = with_header("/auth/page", "authorization", "Basic dXNlcjpwYXNz");
        assert_eq!(send(server.address(), basic).await.text(), "in");
        let token = server.get("a.example", "/token").await.text();
        let bearer = with_header("/jwt/page", "authorization", &format!("Bearer {token}"));
        assert_eq!(send(server.address(), bearer).await.json(), json!("me"));
        assert_eq!(server.get("a.example", "/jwt/page").await.status, 401);
        let cookies = send(server.address(), with_header("/cookies", "cookie", "old=o")).await;
        assert_eq!(cookies.text(), "o undefined");
        assert_eq!(cookies.headers.get_all("set-cookie").iter().count(), 2);
        let own = server.get("a.example", "/clone").await;
        // Node gives the same: what was set before the response of one's own is not for it.
        assert_eq!((own.header("x-after"), own.header("x-own")), ("", "2"));
        assert_eq!(own.headers.get_all("set-cookie").iter().count(), 2);
        let moved = server.get("a.example", "/moved").await;
        assert_eq!((moved.status, moved.header("location")), (301, "/text"));
        let jsx = server.get("a.example", "/jsx").await.text();
        assert_eq!(
            jsx,
            "<main><h1 class=\"x\">&lt;Hi&gt;</h1><i>1</i><i>2</i></main>"
        );
        let teapot = server.get("a.example", "/teapot").await;
        assert_eq!(
            (teapot.status, teapot.text().as_str()),
            (418, "short and stout")
        );
        let bug = server.get("a.example", "/throws").await;
        assert_eq!((bug.status, bug.text().as_str()), (500, "caught a bug"));
    });
}

#[test]
fn hono_keeps_the_context_of_requests_at_once_apart() {
    let Some(server) = serve("hono.js") else {
        return;
    };
    run(async {
        let requests = (0..20).map(|number| {
            let server = &server;
            async move {
                let path = format!("/context/{number}");
                assert_eq!(server.get("a.example", &path).await.text(), path);
            }
        });
        futures_util::future::join_all(requests).await;
    });
}

#[test]
fn hono_streams_and_waits_until() {
    let Some(server) = serve("hono.js") else {
        return;
    };
    run(async {
        assert_eq!(
            server.get("a.example", "/stream").await.text(),
            "part 0\npart 1\npart 2\n"
        );
        assert_eq!(server.get("a.example", "/text").await.text(), "one\ntwo\n");
        let events = server.get("a.example", "/events").await;
        assert_eq!(events.header("content-type"), "text/event-stream");
        assert!(
            events
                .text()
                .starts_with("event: tick\ndata: n=0\nid: 0\n\n"),
            "{}",
            events.text()
        );
        assert_eq!(server.get("a.example", "/later").await.status, 204);
        while server.get("a.example", "/state").await.text() != "done" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A client that goes away in the middle.
        let mut endless = open(server.address(), get("a.example", "/endless")).await;
        assert!(endless.body_mut().frame().await.is_some());
        drop(endless);
    });
    server.logged(|line| line.to_string().contains("client gone"));
}

#[test]
fn hono_upgrades_to_a_websocket() {
    let Some(server) = serve("hono.js") else {
        return;
    };
    run(async {
        let url = format!("ws://{}/ws", server.address());
        let stream = tokio::net::TcpStream::connect(server.address())
            .await
            .unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        socket.send(Message::text("hi")).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer, Message::text("re: hi"));
        socket.close(None).await.unwrap();
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    });
    server.logged(|line| line.to_string().contains("socket closed"));
}

#[test]
fn itty_router_answers_as_it_does_on_workers() {
    let Some(server) = serve("itty.js") else {
        return;
    };
    run(async {
        for (path, status, text) in [
            ("/v1/", 200, "\"root\""),
            ("/v1/todos/3?a=b", 200, r#"{"id":"3","query":{"a":"b"}}"#),
            ("/v1/env", 200, r#"{"greeting":"Hello","waits":"function"}"#),
            ("/v1/html", 200, "<p>itty</p>"),
            ("/v1/text", 200, "plain"),
            ("/v1/none", 204, ""),
            ("/v1/error", 403, r#"{"status":403,"error":"not you"}"#),
            ("/v1/throws", 418, r#"{"status":418,"error":"short"}"#),
            ("/v1/files/a/b", 200, "a/b"),
            ("/v1/zzz", 404, r#"{"status":404,"error":"Not Found"}"#),
        ] {
            let answer = server.get("a.example", path).await;
            assert_eq!(
                (path, answer.status, answer.text().as_str()),
                (path, status, text)
            );
        }
        let mut made = post("a.example", "/v1/todos", r#"{"x":1}"#);
        made.headers_mut()
            .insert("content-type", "application/json".parse().unwrap());
        let made = send(server.address(), made).await;
        assert_eq!(
            (made.status, made.json()),
            (201, json!({ "made": { "x": 1 } }))
        );
        let mut preflight = with_body("OPTIONS", "a.example", "/v1/", "");
        preflight
            .headers_mut()
            .insert("origin", "https://client.example".parse().unwrap());
        let preflight = send(server.address(), preflight).await;
        assert_eq!(
            preflight.header("access-control-allow-origin"),
            "https://client.example"
        );
    });
}

#[test]
fn entrypoint_class_is_made_for_each_request_and_called_by_others() {
    let Some(server) = serve("entrypoint.js") else {
        return;
    };
    run(async {
        for _ in 0..2 {
            assert_eq!(server.get("a.example", "/a").await.text(), "Hello 1 /a");
        }
        assert_eq!(server.get("a.example", "/shared").await.text(), "true");
        assert_eq!(
            server.get("caller.example", "/you").await.json(),
            json!("Hello, you")
        );
    });
}
