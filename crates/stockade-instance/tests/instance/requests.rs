//! Requests and responses that fit into one message, and what goes wrong with them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use stockade_http::ServedBy;
use stockade_instance::FetchError;
use stockade_protocol::GuestError;
use tokio::sync::mpsc;

use crate::guest::{self, Body, Received, serving};
use crate::site::{Site, empty, from_client, full, get, request, text};

#[tokio::test]
async fn request_reaches_the_guest_and_its_response_comes_back() {
    let site = Site::new(serving(|guest, request| {
        assert_eq!(request.method, "GET");
        assert_eq!(request.url, "http://site.example/hello?a=1");
        assert_eq!(request.headers["accept"], "text/plain");
        assert_eq!(request.headers["x-latin"], "é");
        assert_eq!(request.cf["clientIp"], "192.0.2.7");
        assert_eq!(request.cf["requestId"], "req-1");
        guest.respond(request.id, 201, "hé\"llo\n");
    }));
    let mut request = from_client(get("/hello?a=1"), false);
    let headers = request.headers_mut();
    headers.insert("accept", "text/plain".parse().unwrap());
    headers.insert("x-latin", http::HeaderValue::from_bytes(b"\xe9").unwrap());
    let response = site.instance.fetch(request).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-a"], "1");
    let served = response.extensions().get::<ServedBy>().unwrap();
    assert_eq!(
        (&*served.instance, served.mirror, served.retried),
        ("site", 0, false)
    );
    assert_eq!(text(response).await.unwrap(), "hé\"llo\n");
}

#[tokio::test]
async fn request_in_origin_form_gets_its_host_from_the_header() {
    let site = Site::new(serving(|guest, request| {
        guest.respond(request.id, 200, &request.url);
    }));
    let request = http::Request::builder()
        .uri("/a?b")
        .header("host", "shop.example:8080")
        .body(empty())
        .unwrap();
    let (_, url) = site.read(request).await;
    assert_eq!(url, "http://shop.example:8080/a?b");
}

#[tokio::test]
async fn request_body_that_is_small_goes_with_it() {
    let site = Site::new(serving(|guest, request| {
        let Body::Bytes(bytes) = request.body else {
            panic!("{:?}", request.body);
        };
        guest.respond(request.id, 200, &String::from_utf8(bytes).unwrap());
    }));
    let (_, echoed) = site
        .read(request(Method::POST, "/", full("some text")))
        .await;
    assert_eq!(echoed, "some text");
}

#[tokio::test]
async fn request_body_over_the_limit_is_413_before_the_guest_sees_it() {
    let site = Site::with(serving(|_, _| panic!("it was refused")), |options| {
        options.limits.request_body = Some(4);
    });
    let error = site
        .instance
        .fetch(request(Method::POST, "/", full("12345")))
        .await
        .unwrap_err();
    assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn response_to_head_has_the_length_and_no_body() {
    let site = Site::new(serving(|guest, request| {
        guest.respond(request.id, 200, "12345")
    }));
    let response = site
        .instance
        .fetch(request(Method::HEAD, "/", empty()))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(text(response).await.unwrap(), "");
}

#[tokio::test]
async fn response_to_head_has_the_true_length_whatever_the_guest_says() {
    let site = Site::new(serving(|guest, request| {
        let body = match request.path() {
            "/empty" => "\"\"",
            "/none" => "null",
            _ => "\"12345\"",
        };
        let headers = r#"["content-length","99"]"#;
        guest.control(
            "http.response",
            format!("[{},200,{headers},{body}]", request.id),
        );
    }));
    for (path, length) in [("/", "5"), ("/empty", "99"), ("/none", "99")] {
        let head = request(Method::HEAD, path, empty());
        let response = site.instance.fetch(head).await.unwrap();
        assert_eq!(response.headers()["content-length"], length, "{path}");
        assert_eq!(text(response).await.unwrap(), "");
    }
}

#[tokio::test]
async fn response_has_the_status_text_of_the_guest() {
    let site = Site::new(serving(|guest, request| {
        let headers = match request.path() {
            "/own" => r#"[":reason","Odd, but fine","x-a","1"]"#,
            "/split" => r#"[":reason","a\r\nset-cookie: b"]"#,
            _ => r#"["x-a","1"]"#,
        };
        guest.control(
            "http.response",
            format!("[{},299,{headers},null]", request.id),
        );
    }));
    let reason = |response: &http::Response<stockade_http::Body>| {
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned())
    };
    let response = site.get("/own").await.unwrap();
    assert_eq!(reason(&response).as_deref(), Some("Odd, but fine"));
    assert_eq!(response.headers().len(), 1);
    assert_eq!(reason(&site.get("/").await.unwrap()), None);
    let error = site.get("/split").await.unwrap_err();
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn response_without_content_has_no_body() {
    for status in [204, 205, 304] {
        let site = Site::new(serving(move |guest, request| {
            guest.respond(request.id, status, "forbidden");
        }));
        let response = site.get("/").await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(text(response).await.unwrap(), "", "{status}");
    }
}

#[tokio::test]
async fn response_that_http_forbids_is_502_and_the_mirror_goes_on() {
    let site = Site::new(serving(|guest, request| match request.path() {
        "/informational" => guest.respond(request.id, 103, ""),
        "/switch" => guest.respond(request.id, 101, ""),
        "/name" => guest.control(
            "http.response",
            format!("[{},200,[\"a b\",\"1\"],null]", request.id),
        ),
        "/value" => guest.control(
            "http.response",
            format!("[{},200,[\"a\",\"1\\r\\nb: 2\"],null]", request.id),
        ),
        _ => guest.respond(request.id, 200, "fine"),
    }));
    for path in ["/informational", "/switch", "/name", "/value"] {
        let error = site.get(path).await.unwrap_err();
        assert!(
            matches!(error, FetchError::BadResponse { .. }),
            "{path}: {error}"
        );
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    }
    assert_eq!(site.read(get("/")).await.1, "fine");
    assert_eq!(site.observed.count("started"), 1);
}

#[tokio::test]
async fn handler_that_throws_is_500_with_nothing_of_the_guest_in_public() {
    let site = Site::new(serving(|guest, request| {
        guest.control(
            "http.failed",
            format!("[{},\"TypeError\",\"secret\",\"at x\"]", request.id),
        );
    }));
    let error = site
        .instance
        .fetch(from_client(get("/"), false))
        .await
        .unwrap_err();
    assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!error.public_message().contains("secret"));
    assert!(matches!(&error, FetchError::Threw(GuestError { name, .. }) if name == "TypeError"));
    site.observed
        .wait("failed Some(0) req-1 the handler threw TypeError: secret")
        .await;
}

#[tokio::test]
async fn response_in_no_time_is_504_and_the_guest_is_notified() {
    let (received, mut aborted) = mpsc::unbounded_channel();
    let site = Site::with(
        guest::scripted(move |guest, message| {
            if let Some(ids) = message.control("http.abort") {
                received.send(ids).unwrap();
            } else if let Received::Request(request) = message
                && request.path() != "/never"
            {
                guest.respond(request.id, 200, "fine");
            }
        }),
        |options| options.limits.wall = Duration::from_millis(500),
    );
    let error = site.get("/never").await.unwrap_err();
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(aborted.recv().await.is_some());
    assert_eq!(site.read(get("/")).await.1, "fine", "the mirror goes on");
}

#[tokio::test]
async fn client_that_goes_away_aborts_its_request_and_a_late_answer_is_taken() {
    let (received, mut events) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest, message| {
        if let Some(ids) = message.control("http.abort") {
            let id = ids[0].as_u64().unwrap();
            guest.respond(id, 200, "too late");
            received.send("aborted").unwrap();
        } else if let Received::Request(request) = message {
            if request.path() == "/slow" {
                received.send("asked").unwrap();
            } else {
                guest.respond(request.id, 200, "fine");
            }
        }
    }));
    let instance = site.instance.clone();
    let asking = tokio::spawn(async move { instance.fetch(get("/slow")).await });
    assert_eq!(events.recv().await, Some("asked"));
    asking.abort();
    assert_eq!(events.recv().await, Some("aborted"));
    assert_eq!(site.read(get("/")).await.1, "fine");
    assert_eq!(site.instance.stats().in_flight, 0);
    assert_eq!(site.observed.count("misbehaved"), 0);
    site.observed.wait("the client went away").await;
}

#[tokio::test]
async fn requests_beyond_concurrency_wait_in_order_and_beyond_the_queue_are_refused() {
    let (received, mut asked) = mpsc::unbounded_channel();
    let (release, permits) = std::sync::mpsc::channel();
    let permits = Arc::new(Mutex::new(permits));
    let site = Site::with(
        serving(move |guest, request| {
            received.send(request.path().to_owned()).unwrap();
            let _ = permits.lock().recv();
            guest.respond(request.id, 200, "done");
        }),
        |options| {
            options.limits.concurrency = 1;
            options.limits.queue = 2;
        },
    );
    site.instance.ready().await.unwrap();
    let mut running = Vec::new();
    for (path, queued) in [("/1", 0), ("/2", 1), ("/3", 2)] {
        let instance = site.instance.clone();
        running.push(tokio::spawn(async move {
            instance.fetch(get(path)).await.map(|_| ())
        }));
        while site.instance.stats().queued < queued || site.instance.stats().in_flight < 1 {
            tokio::task::yield_now().await;
        }
    }
    let error = site.get("/4").await.unwrap_err();
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.retry_after().is_some());
    assert_eq!(site.observed.count("refused queue_full"), 1);
    for (task, path) in running.into_iter().zip(["/1", "/2", "/3"]) {
        assert_eq!(asked.recv().await.unwrap(), path);
        assert!(asked.try_recv().is_err(), "one at a time");
        release.send(()).unwrap();
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn request_that_waits_too_long_is_refused_and_leaves_the_queue() {
    let site = Site::with(serving(|_, _| {}), |options| {
        options.limits.concurrency = 1;
        options.limits.queue_wait = Duration::from_millis(20);
    });
    site.instance.ready().await.unwrap();
    let instance = site.instance.clone();
    let first = tokio::spawn(async move { instance.fetch(get("/1")).await });
    while site.instance.stats().in_flight < 1 {
        tokio::task::yield_now().await;
    }
    let error = site.get("/2").await.unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    assert_eq!(site.observed.count("refused queue_wait"), 1);
    assert_eq!(site.instance.stats().queued, 0);
    first.abort();
}
