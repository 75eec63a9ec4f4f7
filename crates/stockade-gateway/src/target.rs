//! What answers a request.

use std::future::Future;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_http::Body;

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
