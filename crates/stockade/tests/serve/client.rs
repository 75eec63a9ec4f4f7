//! An HTTP client that sends exactly what a test asks for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::server::{PATIENCE, Server};

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Runs a test on a runtime. Each thing that it waits for may take [`PATIENCE`].
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let most = 5 * PATIENCE;
    let done = runtime.block_on(async { tokio::time::timeout(most, test).await });
    done.unwrap_or_else(|_| panic!("the test took more than {most:?}"))
}

/// A request of a host at a path.
pub(crate) fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    with_body("GET", host, path, "")
}

pub(crate) fn post(host: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    with_body("POST", host, path, body)
}

pub(crate) fn with_body(
    method: &str,
    host: &str,
    path: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::new(body.into()))
        .unwrap()
}

/// A connection of its own for HTTP/1.1; what is sent over it and the response, whose body is still coming.
pub(crate) async fn open<B>(address: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    try_open(address, request).await.unwrap()
}

/// The same, for a request that the server may cut off: the client may be writing when it is.
pub(crate) async fn try_open<B>(
    address: SocketAddr,
    request: Request<B>,
) -> hyper::Result<Response<Incoming>>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender.send_request(request).await
}

/// A connection of its own for HTTP/2, known beforehand.
pub(crate) async fn http2(address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// A WebSocket of a host at a path.
pub(crate) async fn websocket(
    address: SocketAddr,
    host: &str,
) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{host}/socket");
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket
}

/// All of a response.
pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

/// Sends a request over a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    whole(open(address, request).await).await
}

impl Server {
    /// `GET` of the first listener.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Answer {
        send(self.address(), get(host, path)).await
    }

    pub(crate) async fn post(&self, host: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        send(self.address(), post(host, path, body)).await
    }

    /// What `/readyz`, `/healthz` or `/metrics` say.
    pub(crate) async fn status(&self, path: &str) -> Answer {
        send(self.metrics, get("localhost", path)).await
    }

    /// One figure, by its name and all its labels as they stand in the text; 0 where it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.status("/metrics").await.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a figure is as wanted.
    pub(crate) async fn until(&self, series: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let begun = Instant::now();
        loop {
            let value = self.metric(series).await;
            if wanted(value) {
                return value;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{series} {value}: {}",
                self.log_text()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
