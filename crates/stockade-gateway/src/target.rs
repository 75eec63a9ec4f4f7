//! What answers a request.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_http::Body;
use tokio::io::{AsyncRead, AsyncWrite};

/// What answers the requests of a route: a site's code, its files, or anything else.
///
/// The request's URI is absolute, with the scheme and host that the client used and the normalised path.
/// It carries the extension [`Client`](stockade_http::Client). Its body is bounded and timed: it fails
/// when the client goes away, stalls, or sends too much. Hop-by-hop headers are gone.
///
/// The future is dropped when the client goes away or the route's timeout passes; the response's body is
/// dropped when the client stops reading it.
///
/// A response of status 101 with the extension [`Upgrade`](stockade_http::Upgrade) accepts a WebSocket,
/// where [`Client::upgrade`](stockade_http::Client::upgrade) is set. Of its headers the gateway uses
/// only `sec-websocket-protocol` and those that are not part of the handshake.
pub trait Target: Send + Sync + 'static {
    /// Answers one request. A failure is a response too: see [`Problem`](stockade_http::Problem).
    fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

impl<F, R> Target for F
where
    F: Fn(Request<Body>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self(request))
    }
}

/// The bytes of a client, after TLS and the PROXY header. Dropping it closes the connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection that is not HTTP.
pub struct StreamConnection {
    /// Its bytes. Of a flow of datagrams each is its length in two bytes, the higher one first, and its data.
    pub stream: Box<dyn ByteStream>,
    /// The other end, or the client that the PROXY header names.
    pub peer: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// What carries it.
    pub transport: Transport,
}

/// What carries a connection that is not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP or a Unix socket.
    Plain,
    /// TLS over one of these.
    Tls,
    /// Datagrams over UDP.
    Datagrams,
}

/// What takes connections that are not HTTP.
pub trait StreamTarget: Send + Sync + 'static {
    /// Carries a connection to its end. The future is dropped when the gateway cuts what is left of a drain: the
    /// connection must close then.
    fn carry(&self, connection: StreamConnection) -> BoxFuture<'static, ()>;
}

/// A [`StreamTarget`], shared by the connections of a listener.
#[derive(Clone)]
pub struct StreamHandler(pub Arc<dyn StreamTarget>);

impl fmt::Debug for StreamHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamHandler(…)")
    }
}
