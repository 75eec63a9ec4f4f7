//! Servers on loopback: HTTP by hyper, and raw ones that say whatever a case wants.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use stockade_http::Body;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server and how often it was connected to.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Serves each connection by `serve`.
pub(crate) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    on(listener, serve)
}

pub(crate) fn on<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    Server {
        address,
        connections,
    }
}

/// Serves HTTP/1 and HTTP/2 by `handle`.
pub(crate) async fn http<F>(
    handle: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    raw(move |stream| speak(stream, handle.clone())).await
}

/// The same over TLS.
pub(crate) async fn https<F>(
    tls: TlsAcceptor,
    handle: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    raw(move |stream| {
        let (tls, handle) = (tls.clone(), handle.clone());
        async move {
            if let Ok(stream) = tls.accept(stream).await {
                speak(stream, handle).await;
            }
        }
    })
    .await
}

async fn speak<S, F>(
    stream: S,
    handle: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handle(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Answers every request with these bytes, after its head, and closes.
pub(crate) async fn says(answer: impl Into<Bytes>) -> Server {
    let answer = answer.into();
    raw(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A request's head, up to and with the empty line.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A server that keeps the heads of requests as they came, and answers `ok`.
pub(crate) async fn recorder() -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let server = raw(move |mut stream| {
        let kept = kept.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                kept.lock().push(head);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (server, heads)
}

pub(crate) fn reply(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(super::setting::full(text))
}

/// Writes until the other end takes nothing for a while. How many pieces of 64 KiB it took.
pub(crate) async fn until_blocked(stream: &mut (impl AsyncWrite + Unpin)) -> usize {
    let piece = [0; 64 * 1024];
    for count in 0.. {
        let write = tokio::time::timeout(Duration::from_millis(300), stream.write_all(&piece));
        if !matches!(write.await, Ok(Ok(()))) {
            return count;
        }
    }
    usize::MAX
}
