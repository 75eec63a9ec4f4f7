//! The listener for metrics and health: `/metrics`, `/healthz`, `/readyz`.
//!
//! It knows no sites and takes nothing from its clients but a path. Everyone who reaches its address may ask:
//! the configuration keeps it on loopback unless it names another address.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at the same time.
const MAX_CONNECTIONS: usize = 64;

/// From a connection's start to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// What Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the listener reports.
pub(crate) trait Status: Send + Sync + 'static {
    /// All metrics.
    fn metrics(&self) -> String;
    /// Whether every site can take requests; else why not, line by line.
    fn ready(&self) -> Result<(), String>;
}

/// Answers until it is dropped.
pub(crate) struct StatusListener {
    pub(crate) address: SocketAddr,
    path: Arc<ArcSwap<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for StatusListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StatusListener {
    /// Listens at `address`; metrics are at `path`.
    ///
    /// # Errors
    /// When the address is not available.
    pub(crate) async fn start(
        address: SocketAddr,
        path: String,
        status: Arc<dyn Status>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let path = Arc::new(ArcSwap::from_pointee(path));
        let task = tokio::spawn(accept(listener, Arc::clone(&path), status));
        Ok(Self {
            address,
            path,
            task,
        })
    }

    /// Metrics are at this path from now on.
    pub(crate) fn move_to(&self, path: String) {
        self.path.store(Arc::new(path));
    }
}

async fn accept(listener: TcpListener, path: Arc<ArcSwap<String>>, status: Arc<dyn Status>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the listener for metrics cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (path, status) = (Arc::clone(&path), Arc::clone(&status));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(
                    request.method(),
                    request.uri().path(),
                    &path.load(),
                    &*status,
                );
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // How it ended concerns nobody.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &str,
    status: &dyn Status,
) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    let (code, kind, text) = if method != Method::GET && method != Method::HEAD {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            plain,
            "only GET and HEAD\n".to_owned(),
        )
    } else if path == metrics {
        (StatusCode::OK, OPEN_METRICS, status.metrics())
    } else if path == "/healthz" {
        (StatusCode::OK, plain, "ok\n".to_owned())
    } else if path == "/readyz" {
        match status.ready() {
            Ok(()) => (StatusCode::OK, plain, "ready\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, plain, why),
        }
    } else {
        let text = format!("there are {metrics}, /healthz and /readyz\n");
        (StatusCode::NOT_FOUND, plain, text)
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Half;

    impl Status for Half {
        fn metrics(&self) -> String {
            "a_total 1\n# EOF\n".to_owned()
        }

        fn ready(&self) -> Result<(), String> {
            Err("blog: no mirror runs\n".to_owned())
        }
    }

    async fn ask(listener: &StatusListener, head: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(listener.address)
            .await
            .unwrap();
        let request = format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn status_reports_metrics_and_health() {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = StatusListener::start(address, "/m".to_owned(), Arc::new(Half))
            .await
            .unwrap();
        for (head, start, part) in [
            ("GET /m", "HTTP/1.1 200", "a_total 1\n"),
            ("GET /m?x=1", "HTTP/1.1 200", "a_total 1\n"),
            ("GET /healthz", "HTTP/1.1 200", "ok\n"),
            ("GET /readyz", "HTTP/1.1 503", "blog: no mirror runs"),
            ("GET /metrics", "HTTP/1.1 404", "/healthz"),
            ("POST /m", "HTTP/1.1 405", "allow: GET, HEAD"),
        ] {
            let text = ask(&listener, head).await;
            assert!(text.starts_with(start), "{head}: {text}");
            assert!(text.contains(part), "{head}: {text}");
        }
        assert!(!ask(&listener, "HEAD /m").await.contains("a_total"));
        listener.move_to("/n".to_owned());
        assert!(ask(&listener, "GET /n").await.contains("a_total"));
        assert!(ask(&listener, "GET /m").await.starts_with("HTTP/1.1 404"));
    }
}
