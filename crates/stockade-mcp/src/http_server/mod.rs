//! Clients over HTTP (streamable HTTP of MCP) at `/mcp`.
//!
//! A web page can send requests to any address that its browser reaches. A request is therefore answered only if its
//! `Host` is a name of this server and its `Origin`, if there is one, was allowed: a name that was made to point here (DNS
//! rebinding) is in both. Pages of this machine are no exception, because they may be those of anyone: a server for
//! development shows what it is given.
//!
//! Steps of a request: `admission.rs` says whose it is, `connections.rs` which connection of MCP it may use, and rmcp
//! answers it with the sessions of `streams.rs`, whose answers `answers.rs` keeps. `guarded.rs` is the body of the answer.

mod admission;
mod answers;
mod connections;
mod guarded;
mod sockets;
mod streams;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::tower::StreamableHttpService;
use stockade_callers::Caller;
use stockade_http::BoxError;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use self::admission::{Admission, Admitted, opens_connection, refusal};
pub use self::admission::{Clients, Token};
use self::connections::Connections;
use self::guarded::Guarded;
use self::sockets::Sockets;
use self::streams::Streams;
use crate::bounds::{
    HTTP_BODY_TIME, HTTP_HEAD_BYTES, HTTP_HEAD_TIME, HTTP_SESSIONS, MESSAGE_BYTES,
};
use crate::server::{Handler, McpServer, Tenant};

/// Where the server answers.
pub const PATH: &str = "/mcp";

const SESSION: &str = "mcp-session-id";

/// The answer to a connection beyond those that one address may have.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\n\
    too many connections\n";

/// Options of the server for HTTP.
#[derive(Debug, Default)]
pub struct HttpOptions {
    /// Whom it lets in.
    pub clients: Clients,
    /// Names of this server, besides those of the loopback device and the address that it listens at.
    pub hosts: Vec<String>,
    /// Origins of web pages that may send requests. Without any, a request with an `Origin` is refused.
    pub origins: Vec<String>,
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum HttpServerError {
    /// The address cannot be listened at.
    #[error(
        "cannot listen at {address}: {error}\n  fix: end the process that listens there, or choose another address"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel reported.
        error: std::io::Error,
    },
    /// Others could run code without an API key or a token.
    #[error(
        "{0} can be reached from other machines, which could run code without a token or an API key\n  fix: give \
         --keys or --token-file, or listen at 127.0.0.1"
    )]
    NoToken(SocketAddr),
}

/// A server that listens.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
}

/// What answers requests.
struct Shared {
    server: Arc<McpServer>,
    service: StreamableHttpService<Handler, Streams>,
    sessions: Arc<Streams>,
    connections: Arc<Connections>,
    admission: Admission,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl HttpServer {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address cannot be used, or is not one of this machine alone and everyone is let in.
    pub async fn bind(
        server: Arc<McpServer>,
        address: SocketAddr,
        options: HttpOptions,
    ) -> Result<Self, HttpServerError> {
        let is_open = matches!(options.clients, Clients::All);
        if !address.ip().is_loopback() && is_open {
            return Err(HttpServerError::NoToken(address));
        }
        let failed = |error| HttpServerError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // What rmcp checks and bounds.
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
        let sessions = Arc::new(Streams::new());
        let handled = Arc::clone(&server);
        let service = StreamableHttpService::new(
            move || Ok(Handler::new(Arc::clone(&handled))),
            Arc::clone(&sessions),
            config,
        );
        // Whose requests they are, and what ends with their keys.
        let connections = Connections::new(match options.clients {
            Clients::Keys(_) => HTTP_SESSIONS / 2,
            Clients::Tokens(ref tokens) if tokens.len() > 1 => HTTP_SESSIONS / 2,
            _ => usize::MAX,
        });
        let of_tenants = (
            Arc::clone(&server),
            Arc::clone(&sessions),
            Arc::clone(&connections),
        );
        let admission = Admission::new(options.clients, move |tenant| {
            let (server, sessions, connections) = of_tenants.clone();
            server.end_tenant(&tenant);
            for id in connections.end(&tenant.name) {
                close(Arc::clone(&sessions), id);
            }
        });
        Ok(Self {
            listener,
            address,
            shared: Arc::new(Shared {
                server,
                service,
                sessions,
                connections,
                admission,
            }),
            end,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until the future is dropped.
    pub async fn serve(self) {
        let sockets = Sockets::new();
        let _ends = self.end.clone().drop_guard();
        loop {
            // While all places are taken, connections wait in the kernel.
            let Some(place) = sockets.place().await else {
                return;
            };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            // An answer is several small writes, of which each would wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended early");
                continue;
            }
            let Some(place) = sockets.count(place, peer.ip()) else {
                // A new socket has room for it.
                let _ = stream.try_write(NO_PLACE);
                continue;
            };
            let (shared, end) = (Arc::clone(&self.shared), self.end.clone());
            tokio::spawn(async move {
                let _place = place;
                end.run_until_cancelled(connection(stream, peer.ip(), shared))
                    .await;
            });
        }
    }
}

/// Serves one connection.
async fn connection(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIME)
        .max_buf_size(HTTP_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Closes a connection of MCP.
fn close(sessions: Arc<Streams>, id: String) {
    tokio::spawn(async move {
        if let Err(error) = sessions.close_session(&id.into()).await {
            tracing::debug!(%error, "a connection of MCP could not be closed");
        }
    });
}

impl Shared {
    async fn answer(&self, mut request: Request<Incoming>, peer: IpAddr) -> Answer {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "MCP is at /mcp");
        }
        // Who asks. The key or the token stays here.
        let admitted = match self.admission.admit(request.headers(), peer) {
            Ok(admitted) => admitted,
            Err(refused) => return *refused,
        };
        request.headers_mut().remove(header::AUTHORIZATION);
        let headers = request.headers().clone();
        match admitted.caller.clone() {
            None => self.answer_to(admitted, request).await,
            Some(caller) => tokio::select! {
                biased;
                answer = self.answer_to(admitted, request) => answer,
                () = caller.until_invalid() => caller.ended(&headers),
            },
        }
    }

    async fn answer_to(&self, admitted: Admitted, request: Request<Incoming>) -> Answer {
        let (mut head, body) = request.into_parts();
        // The body, which rmcp would wait for without end.
        let body = match read(body).await {
            Ok(body) => body,
            Err(answer) => return *answer,
        };
        let is_post = head.method == Method::POST;
        let caller = admitted.caller.as_ref();
        let noted = match is_post {
            true => self.admission.admit_message(caller, &head.headers, &body),
            false => Ok(Default::default()),
        };
        let noted = match noted {
            Ok(noted) => noted,
            Err(refused) => return *refused,
        };
        // The connection of MCP, which must be one of the same tenant, or room for a new one.
        let tenant = &admitted.tenant;
        let named = head.headers.get(SESSION).cloned();
        let (mut opening, mut in_use) = (None, None);
        match named.as_ref().and_then(|id| id.to_str().ok()) {
            Some(id) => match self.connections.enter(id, tenant) {
                Some(entered) => in_use = Some(entered),
                None => return *unknown(&head.headers),
            },
            None if named.is_some() => return *unknown(&head.headers),
            None if is_post && opens_connection(&body) => match self.connections.open(tenant) {
                Ok((room, closed)) => {
                    opening = Some(room);
                    if let Some((id, of)) = closed {
                        self.closed(&id, &of);
                        close(Arc::clone(&self.sessions), id);
                    }
                }
                Err(why) => return plain(StatusCode::SERVICE_UNAVAILABLE, &why),
            },
            None => {}
        }
        // The answer.
        let is_delete = head.method == Method::DELETE;
        head.extensions.insert(Arc::clone(tenant));
        let request = Request::from_parts(head, Full::new(body));
        let mut answer = self.service.handle(request).await;
        noted.apply(&mut answer);
        let id = answer
            .headers()
            .get(SESSION)
            .and_then(|id| id.to_str().ok());
        if let (Some(opening), Some(id)) = (opening, id) {
            in_use = Some(opening.done(id.to_owned(), Arc::clone(tenant)));
        }
        // What ended it; an answer alone does not, such as that to a method or a host that does not exist.
        let ends = is_delete || answer.status() == StatusCode::NOT_FOUND;
        if let Some(id) = named.as_ref().and_then(|id| id.to_str().ok())
            && ends
            && !self.lives(id).await
            && let Some(of) = self.connections.closed(id)
        {
            self.closed(id, &of);
        }
        let until = match admitted.caller {
            Some(caller) => async move { Caller::until_invalid(&caller).await }.boxed(),
            None => std::future::pending().boxed(),
        };
        answer.map(|inner| {
            let guarded = Guarded {
                inner,
                until,
                _connection: in_use,
                _permit: admitted.permit,
            };
            guarded.map_err(BoxError::from).boxed_unsync()
        })
    }

    /// Whether rmcp has a connection of MCP. As long as it does, the connection counts.
    async fn lives(&self, id: &str) -> bool {
        let id = id.to_owned().into();
        self.sessions.has_session(&id).await.unwrap_or(false)
    }

    /// Ends what a client had whose connection of MCP has ended.
    fn closed(&self, id: &str, tenant: &Arc<Tenant>) {
        self.server.end_client(tenant, id);
    }
}

/// Reads the body of a request.
async fn read(body: Incoming) -> Result<Bytes, Box<Answer>> {
    let reading = Limited::new(body, MESSAGE_BYTES).collect();
    match tokio::time::timeout(HTTP_BODY_TIME, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Box::new(plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body ended early, or has more than {MESSAGE_BYTES} bytes"),
        ))),
        Err(_) => Err(Box::new(plain(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        ))),
    }
}

/// The answer to a request whose connection of MCP does not exist: the client is to begin again (MCP, "Session Management").
fn unknown(headers: &HeaderMap) -> Box<Answer> {
    let detail = "There is no such connection: it has ended, or is not one of this client.";
    refusal(headers, StatusCode::NOT_FOUND, detail.to_owned())
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(stockade_http::full_body(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
