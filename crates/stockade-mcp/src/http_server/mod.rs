//! Clients over HTTP (streamable HTTP of MCP) at `/mcp`.
//!
//! A web page can send requests to any address that its browser reaches. A request is therefore answered only if its
//! `Host` is a name of this server and its `Origin`, if there is one, was allowed: a name that was made to point here (DNS
//! rebinding) is in both. Pages of this machine are no exception, because they may be those of anyone: a server for
//! development shows what it is given.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::tower::StreamableHttpService;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::bounds::{
    HTTP_BODY_TIME, HTTP_CONNECTIONS, HTTP_HEAD_BYTES, HTTP_HEAD_TIME, HTTP_SESSIONS, MESSAGE_BYTES,
};
use crate::server::{Caller, Handler, McpServer};

/// Where the server answers.
pub const PATH: &str = "/mcp";

/// Options of the server for HTTP.
#[derive(Debug, Default)]
pub struct HttpOptions {
    /// Tokens, one of which each request must have. Without tokens, every request is let in.
    pub tokens: Vec<Token>,
    /// Names of this server, besides those of the loopback device and the address that it listens at.
    pub hosts: Vec<String>,
    /// Origins of web pages that may send requests. Without any, a request with an `Origin` is refused.
    pub origins: Vec<String>,
}

/// A token as its hash, so that a comparison says nothing about it by its time.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Makes the hash of a token.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum HttpServerError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel reported.
        error: std::io::Error,
    },
    /// Others could run code without a token.
    #[error(
        "{0} can be reached from other machines, which could run code without a token\n  fix: give tokens with \
         --token-file, or listen at 127.0.0.1"
    )]
    NoToken(SocketAddr),
}

/// A server that listens.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    service: StreamableHttpService<Handler, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    tokens: Vec<Token>,
    end: CancellationToken,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl HttpServer {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address cannot be used, or is not one of this machine alone and there is no token.
    pub async fn bind(
        server: Arc<McpServer>,
        address: SocketAddr,
        options: HttpOptions,
    ) -> Result<Self, HttpServerError> {
        if !address.ip().is_loopback() && options.tokens.is_empty() {
            return Err(HttpServerError::NoToken(address));
        }
        let failed = |error| HttpServerError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let end = CancellationToken::new();
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let hosts = local
            .into_iter()
            .chain([address.ip().to_string()])
            .chain(options.hosts);
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(hosts)
            .with_allowed_origins(options.origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(MESSAGE_BYTES)
            .with_cancellation_token(end.clone());
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(
            move || Ok(Handler::new(Arc::clone(&server))),
            Arc::clone(&sessions),
            config,
        );
        Ok(Self {
            listener,
            address,
            service,
            sessions,
            tokens: options.tokens,
            end,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until the future is dropped.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
        let _ends = self.end.clone().drop_guard();
        let shared = Arc::new(self);
        loop {
            // While all places are taken, connections wait in the kernel.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match shared.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (shared, end) = (Arc::clone(&shared), shared.end.clone());
            tokio::spawn(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(shared.answer(request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HTTP_HEAD_TIME)
                    .max_buf_size(HTTP_HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                if let Some(Err(error)) = end.run_until_cancelled(connection).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "MCP is at /mcp");
        }
        // Who asks, and whether there is room.
        let Some(caller) = self.admit(&request) else {
            let mut answer = plain(
                StatusCode::UNAUTHORIZED,
                "a token is needed: Authorization: Bearer TOKEN",
            );
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        };
        let is_new =
            request.method() == Method::POST && !request.headers().contains_key("mcp-session-id");
        if is_new && self.sessions.sessions.read().await.len() >= HTTP_SESSIONS {
            let full = format!(
                "{HTTP_SESSIONS} clients are connected, which is the limit; try again later"
            );
            return plain(StatusCode::SERVICE_UNAVAILABLE, &full);
        }
        request.extensions_mut().insert(caller);
        // The token stays here.
        request.headers_mut().remove(header::AUTHORIZATION);
        // The body, which rmcp would wait for without end.
        let (head, body) = request.into_parts();
        let read =
            tokio::time::timeout(HTTP_BODY_TIME, Limited::new(body, MESSAGE_BYTES).collect()).await;
        match read {
            Err(_) => plain(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
            Ok(Err(_)) => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body ended early, or has more than {MESSAGE_BYTES} bytes"),
            ),
            Ok(Ok(body)) => {
                let request = Request::from_parts(head, Full::new(body.to_bytes()));
                self.service.handle(request).await
            }
        }
    }

    /// Whose request it is, if it may be answered.
    fn admit(&self, request: &Request<Incoming>) -> Option<Caller> {
        if self.tokens.is_empty() {
            return Some(Caller(0));
        }
        let value = request
            .headers()
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?;
        let (scheme, text) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let token = Token::new(text.trim());
        self.tokens
            .iter()
            .position(|known| *known == token)
            .map(Caller)
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
