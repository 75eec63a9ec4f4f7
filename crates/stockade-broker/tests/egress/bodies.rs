//! Bodies both ways: bounds, time, compression, back-pressure.

use std::time::Duration;

use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use stockade_broker::{EgressError, Outcome, Reason};
use stockade_http::{Body, BoxError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::servers::{self, reply};
use super::setting::{Setting, bytes, full, get, own, text};

fn streamed(pieces: Vec<Result<&'static str, BoxError>>) -> Body {
    let pieces = pieces
        .into_iter()
        .map(|piece| piece.map(|text| Frame::data(Bytes::from(text))));
    StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
}

async fn compressed(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "br" => {
            let mut encoder = BrotliEncoder::new(Vec::new());
            encoder.write_all(data).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
        "gzip" => {
            let mut encoder = GzipEncoder::new(Vec::new());
            encoder.write_all(data).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
        _ => {
            let mut encoder = DeflateEncoder::new(Vec::new());
            encoder.write_all(data).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
    }
}

async fn encoded(coding: &str, data: Vec<u8>) -> servers::Server {
    let coding = coding.to_owned();
    servers::http(move |_| {
        let mut response = reply(data.clone());
        response
            .headers_mut()
            .insert("content-encoding", coding.parse().unwrap());
        async move { response }
    })
    .await
}

#[tokio::test]
async fn compressed_answer_is_decompressed_and_its_connection_kept() {
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let data = "all work and no play ".repeat(5000);
    let mut zlib = vec![0x78, 0x9c];
    zlib.extend(compressed("deflate", data.as_bytes()).await);
    zlib.extend([1, 2, 3, 4]);
    let two = [
        compressed("gzip", b"one,").await,
        compressed("gzip", b"two").await,
    ]
    .concat();
    for (coding, sent, expected) in [
        ("gzip", compressed("gzip", data.as_bytes()).await, &*data),
        ("x-gzip", two, "one,two"),
        ("br", compressed("br", data.as_bytes()).await, &data),
        (
            "deflate",
            compressed("deflate", data.as_bytes()).await,
            &data,
        ),
        ("deflate", zlib, &data),
    ] {
        let server = encoded(coding, sent).await;
        for _ in 0..2 {
            let response = get(&egress, &server.url("/")).await.unwrap();
            assert!(!response.headers().contains_key("content-encoding"));
            assert!(!response.headers().contains_key("content-length"));
            assert_eq!(text(response).await, expected, "{coding}");
            setting.ended(Outcome::Done).await;
        }
        assert_eq!(server.connections(), 1, "{coding}");
    }
}

#[tokio::test]
async fn coding_that_is_not_known_is_left_to_the_guest() {
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for coding in ["zstd", "gzip, gzip", "identity"] {
        let server = encoded(coding, b"as it is".to_vec()).await;
        let response = get(&egress, &server.url("/")).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(text(response).await, "as it is");
    }
}

#[tokio::test]
async fn decompression_bomb_is_stopped_by_its_ratio() {
    let bomb = compressed("gzip", &vec![0; 50 * 1024 * 1024]).await;
    let server = encoded("gzip", bomb).await;
    let setting = Setting::new();
    let mut body = get(&setting.open(|_| ()), &server.url("/"))
        .await
        .unwrap()
        .into_body();
    let mut total = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => total += frame.into_data().unwrap().len(),
            Err(error) => break own(error),
        }
    };
    let reason = error.refusal().unwrap().reason.clone();
    assert_eq!(reason, Reason::DecompressionBomb { ratio: 200 });
    assert!(total < 12 * 1024 * 1024, "{total}");
    assert!(body.frame().await.is_none());
    drop(body);
    setting.ended(Outcome::Failed).await;
    assert_eq!(setting.reasons(), [reason]);
}

#[tokio::test]
async fn decompressed_answer_is_bounded_by_size() {
    let data = compressed(
        "br",
        "honest text, well compressed. ".repeat(10_000).as_bytes(),
    )
    .await;
    let server = encoded("br", data).await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.max_decoded_bytes = 100_000);
    let response = get(&egress, &server.url("/")).await.unwrap();
    let error = own(bytes(response).await.unwrap_err());
    let what = "the decompressed response";
    let expected = Reason::TooLarge {
        what,
        limit: 100_000,
    };
    assert_eq!(error.refusal().unwrap().reason, expected);
}

#[tokio::test]
async fn compressed_answer_that_is_broken_is_an_error() {
    let good = compressed("gzip", b"some text that is long enough").await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for bad in [good[..good.len() - 9].to_vec(), b"no gzip at all".to_vec()] {
        let server = encoded("gzip", bad).await;
        let response = get(&egress, &server.url("/")).await.unwrap();
        let error = own(bytes(response).await.unwrap_err());
        assert!(matches!(error, EgressError::Upstream { .. }), "{error}");
    }
}

#[tokio::test]
async fn answer_larger_than_allowed_is_refused_at_its_head_or_where_it_passes() {
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.max_response_bytes = 1000);
    let limit = Reason::TooLarge {
        what: "the response",
        limit: 1000,
    };
    let declared = servers::http(|_| async { reply(vec![0; 1001]) }).await;
    let error = get(&egress, &declared.url("/")).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, limit);
    let endless = servers::raw(|mut stream| async move {
        servers::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        while stream.write_all(b"100\r\n").await.is_ok() {
            let _ = stream.write_all(&[b'x'; 256]).await;
            let _ = stream.write_all(b"\r\n").await;
        }
    })
    .await;
    let response = get(&egress, &endless.url("/")).await.unwrap();
    let error = own(bytes(response).await.unwrap_err());
    assert_eq!(error.refusal().unwrap().reason, limit);
    let exact = servers::http(|_| async { reply(vec![7; 1000]) }).await;
    let response = get(&egress, &exact.url("/")).await.unwrap();
    assert_eq!(bytes(response).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn answer_shorter_than_it_says_is_an_error() {
    let server = servers::says("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    let setting = Setting::new();
    let response = get(&setting.open(|_| ()), &server.url("/")).await.unwrap();
    let error = own(bytes(response).await.unwrap_err());
    assert!(matches!(error, EgressError::Upstream { .. }), "{error}");
    setting.ended(Outcome::Failed).await;
}

#[tokio::test]
async fn server_that_is_silent_is_given_up() {
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.head_timeout = Duration::from_millis(200);
        policy.limits.idle_timeout = Duration::from_millis(200);
    });
    let (hold, held) = mpsc::channel::<()>(1);
    let held = std::sync::Arc::new(tokio::sync::Mutex::new(held));
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst"] {
        let held = held.clone();
        let server = servers::raw(move |mut stream| {
            let held = held.clone();
            async move {
                servers::read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                held.lock().await.recv().await;
            }
        })
        .await;
        let error = match get(&egress, &server.url("/")).await {
            Ok(response) => own(bytes(response).await.unwrap_err()),
            Err(error) => error,
        };
        assert!(matches!(error, EgressError::TimedOut { .. }), "{error}");
        assert_eq!(error.name(), "TimeoutError");
    }
    drop(hold);
}

#[tokio::test]
async fn server_that_drips_is_given_up_after_the_whole_time() {
    let server = servers::raw(|mut stream| async move {
        servers::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            .await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.request_timeout = Duration::from_secs(2));
    let response = get(&egress, &server.url("/")).await.unwrap();
    let error = own(bytes(response).await.unwrap_err());
    assert!(
        error
            .to_string()
            .contains("the whole request took longer than 2s"),
        "{error}"
    );
}

/// A server that reads nothing until a signal, and then reports how much came.
#[tokio::test]
async fn guest_is_not_asked_for_more_than_the_server_takes() {
    let (asked, mut asks) = mpsc::unbounded_channel();
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    let may_go = std::sync::Arc::new(parking_lot::Mutex::new(Some(may_go)));
    let server = servers::raw(move |mut stream| {
        let may_go = may_go.lock().take();
        async move {
            let Some(may_go) = may_go else { return };
            let _ = may_go.await;
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
        }
    })
    .await;
    let pieces = futures_util::stream::repeat(()).map(move |()| {
        let _ = asked.send(());
        Ok(Frame::data(Bytes::from(vec![0; 64 * 1024])))
    });
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.head_timeout = Duration::from_millis(500);
        policy.limits.max_request_bytes = u64::MAX;
    });
    let body = StreamBody::new(pieces).boxed_unsync();
    let request = Request::post(server.url("/")).body(body).unwrap();
    let error = egress.fetch(request).await.unwrap_err();
    assert!(matches!(error, EgressError::TimedOut { .. }), "{error}");
    let mut count = 0;
    while asks.try_recv().is_ok() {
        count += 1;
    }
    // What sockets hold is some MiB; without back-pressure it would be gigabytes.
    assert!(count < 400, "{count} pieces of 64 KiB");
    drop(go);
}

#[tokio::test]
async fn server_is_not_read_further_than_the_guest_reads() {
    let (blocked, mut blocks) = mpsc::unbounded_channel();
    let server = servers::raw(move |mut stream| {
        let blocked = blocked.clone();
        async move {
            servers::read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = blocked.send(servers::until_blocked(&mut stream).await);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.max_response_bytes = u64::MAX);
    let mut body = get(&egress, &server.url("/")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let taken = blocks.recv().await.unwrap();
    assert!(taken < 400, "{taken} pieces of 64 KiB");
    drop(body);
    setting.ended(Outcome::Abandoned).await;
}

async fn post(
    egress: &std::sync::Arc<stockade_broker::Egress>,
    url: &str,
    body: Body,
) -> EgressError {
    let request = Request::post(url).body(body).unwrap();
    egress.clone().fetch(request).await.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn request_body_beyond_its_bounds_or_its_word_is_never_sent_whole() {
    let server = servers::http(|request| async move {
        match request.into_body().collect().await {
            Ok(body) => reply(format!("{} bytes", body.to_bytes().len())),
            Err(_) => reply("broken"),
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.max_request_bytes = 10);
    let limit = Reason::TooLarge {
        what: "the request's body",
        limit: 10,
    };
    let known = post(&egress, &server.url("/"), full("eleven byte")).await;
    assert_eq!(known.refusal().unwrap().reason, limit);
    let grown = post(
        &egress,
        &server.url("/"),
        streamed(vec![Ok("seven77"), Ok("four")]),
    )
    .await;
    assert_eq!(grown.refusal().unwrap().reason, limit);
    let broken = streamed(vec![Ok("x"), Err("the guest threw".into())]);
    let error = post(&egress, &server.url("/"), broken).await;
    assert!(error.to_string().contains("the guest threw"), "{error}");
    let fits = Request::post(server.url("/")).body(streamed(vec![Ok("12345"), Ok("67890")]));
    let response = egress.clone().fetch(fits.unwrap()).await.unwrap();
    assert_eq!(text(response).await, "10 bytes");
}

#[tokio::test]
async fn content_length_of_the_guest_is_held_to() {
    let server = servers::raw(|mut stream| async move {
        let head = servers::read_head(&mut stream).await.to_lowercase();
        let mut answer =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n".to_vec();
        answer.extend(if head.contains("content-length: 5") {
            b"ok"
        } else {
            b"no"
        });
        let mut body = [0; 5];
        if stream.read_exact(&mut body).await.is_ok() {
            let _ = stream.write_all(&answer).await;
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.head_timeout = Duration::from_secs(2));
    let send = |body: Body| {
        let request = Request::post(server.url("/"))
            .header("content-length", "5")
            .body(body);
        egress.clone().fetch(request.unwrap())
    };
    let good = send(streamed(vec![Ok("12"), Ok("345")])).await.unwrap();
    assert_eq!(text(good).await, "ok");
    let known = send(full("123456")).await.unwrap_err();
    assert!(matches!(known, EgressError::Invalid { .. }), "{known}");
    for pieces in [vec![Ok("12")], vec![Ok("123456")], vec![]] {
        let error = send(streamed(pieces)).await.unwrap_err();
        assert!(matches!(error, EgressError::Invalid { .. }), "{error}");
    }
}
