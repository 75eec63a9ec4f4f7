//! What the gateway did, for logs and metrics.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, Method, StatusCode, Version};
use stockade_auth::KeyId;
use stockade_http::{ClientTls, ServedBy};
use stockade_trace::Trace;
use strum::{IntoStaticStr, VariantArray};

/// Receives what the gateway did. Called on the tasks that serve: must return at once.
pub trait Observer: Send + Sync + 'static {
    /// A request is over: its response's last byte was handed to the connection, or it failed.
    fn request(&self, record: &AccessRecord) {
        let _ = record;
    }

    /// A request or a WebSocket that is not over has moved bytes; about once in a second.
    fn transferred(&self, transferred: &Transferred) {
        let _ = transferred;
    }

    /// A connection or a request was refused before it reached a target. A refused request is also
    /// reported by [`Observer::request`] if its head could be read.
    fn refused(&self, refusal: Refusal, peer: Option<IpAddr>) {
        let _ = (refusal, peer);
    }

    /// A connection was opened, closed or secured.
    fn connection(&self, listener: &str, event: ConnectionEvent) {
        let _ = (listener, event);
    }

    /// A WebSocket is over. Its request was reported when it was accepted.
    fn socket(&self, record: &SocketRecord) {
        let _ = record;
    }
}

/// Bytes that a request or a WebSocket has moved and that were not reported before.
#[derive(Debug, Clone)]
pub struct Transferred {
    /// The label of the route.
    pub route: Arc<str>,
    /// The API key with which the client was let in.
    pub api_key: Option<KeyId>,
    /// Bytes of the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Reports a connection as opened, and as closed when it is dropped.
pub(crate) struct ConnectionReport {
    observer: Arc<dyn Observer>,
    listener: Arc<str>,
    opened: Instant,
}

impl ConnectionReport {
    pub(crate) fn new(observer: &Arc<dyn Observer>, listener: &Arc<str>) -> Self {
        observer.connection(listener, ConnectionEvent::Opened);
        Self {
            observer: Arc::clone(observer),
            listener: Arc::clone(listener),
            opened: Instant::now(),
        }
    }
}

impl Drop for ConnectionReport {
    fn drop(&mut self) {
        let lasted = self.opened.elapsed();
        self.observer
            .connection(&self.listener, ConnectionEvent::Closed { lasted });
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Accepted.
    Opened,
    /// Its TLS handshake is done.
    Secured {
        /// How long it took.
        took: Duration,
    },
    /// Closed, by whichever side.
    Closed {
        /// How long it was open.
        lasted: Duration,
    },
}

/// One request and its response.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// When the request's head had been read.
    pub started: SystemTime,
    /// Names the request; in the response's `x-request-id` too.
    pub request_id: Arc<str>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The label of the route that matched.
    pub route: Option<Arc<str>>,
    /// The label of the route whose filters refused the request.
    pub refused_by: Option<Arc<str>>,
    /// The API key with which the client was let in.
    pub api_key: Option<KeyId>,
    /// The client: the peer, or what trusted proxies say about it.
    pub client: SocketAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The TLS of the connection.
    pub tls: Option<Arc<ClientTls>>,
    /// The method.
    pub method: Method,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// The host that the client named, in lower case without port; none if it named none that is valid.
    pub host: Option<String>,
    /// The normalised path, or the client's own where that was refused.
    pub path: String,
    /// The query without its question mark and without API keys.
    pub query: Option<String>,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The request's fields that [`TableOptions::logged_headers`](crate::TableOptions) names, as they came,
    /// each as often as it came.
    pub headers: Vec<(HeaderName, String)>,
    /// The response's status.
    pub status: StatusCode,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the response's body that were sent.
    pub bytes_out: u64,
    /// Bytes in and out that [`Observer::transferred`] has not reported.
    pub unreported: (u64, u64),
    /// From the request's head to the response's head.
    pub first_byte: Duration,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// The mirror that answered.
    pub served_by: Option<ServedBy>,
    /// Its trace, where [`TableOptions::tracing`](crate::TableOptions) is set. The span of the request itself is the
    /// observer's to end.
    pub trace: Option<Trace>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The response is complete.
    Complete,
    /// The connection goes on as a WebSocket.
    Upgraded,
    /// The gateway refused the request.
    Refused(Refusal),
    /// The client went away before the response was complete.
    ClientGone,
    /// The response's body failed.
    BodyFailed,
    /// The target did not answer in time.
    TimedOut,
}

impl Outcome {
    /// For logs and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why the gateway refused a connection or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// As many connections as may be open.
    Connections,
    /// As many connections of one address as may be open.
    ConnectionsOfAddress,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The handshake failed.
    Handshake,
    /// A header of the PROXY protocol that is missing, malformed or from an untrusted peer.
    ProxyProtocol,
    /// The request's head took too long.
    HeaderTimeout,
    /// The request's head is malformed, or could be read in two ways.
    MalformedHead,
    /// The request's body is malformed, or could be read in two ways.
    MalformedBody,
    /// Too many or too large header fields.
    HeadersTooLarge,
    /// The request's target is too long.
    UriTooLong,
    /// The host is missing, given twice, or invalid.
    Host,
    /// The path is invalid.
    Path,
    /// The method is not served: TRACE, CONNECT.
    Method,
    /// No route matches.
    NoRoute,
    /// The host needs another connection than the one it came on (421).
    Misdirected,
    /// The route needs a client certificate, or another one.
    ClientCertificate,
    /// The route needs an API key, and the request has none that is valid, or several.
    ApiKey,
    /// The request has a token that is not valid.
    Token,
    /// The API key does not have the scopes that the request needs.
    Scope,
    /// The address tried too many wrong API keys or tokens.
    ApiKeyGuesses,
    /// A limit of what clients may use over time is used up.
    RateLimit,
    /// The request's body is too large.
    BodyTooLarge,
    /// The request's body made no progress.
    BodyTimeout,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A WebSocket handshake that is malformed (RFC 6455, section 4.2.1).
    #[strum(serialize = "websocket")]
    WebSocket,
    /// As many WebSockets as may be open.
    #[strum(serialize = "websockets")]
    WebSockets,
    /// Frames of HTTP/2 came in a flood.
    FrameFlood,
    /// The client took nothing of its response.
    Stalled,
    /// A datagram from a port that nothing can be sent to.
    DatagramSource,
    /// More datagrams of one address than may come in a time.
    DatagramRate,
    /// As many datagrams as may wait for a handler.
    DatagramQueue,
    /// A handler sent more to an address than that address has sent allows.
    Amplification,
}

impl Refusal {
    /// For logs and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One WebSocket, when it is over.
#[derive(Debug, Clone)]
pub struct SocketRecord {
    /// The id of the request that opened it.
    pub request_id: Arc<str>,
    /// The route's label.
    pub route: Arc<str>,
    /// The API key with which the client was let in.
    pub api_key: Option<KeyId>,
    /// The client.
    pub client: SocketAddr,
    /// How long it was open.
    pub lasted: Duration,
    /// Messages of the client.
    pub messages_in: u64,
    /// Messages of the guest.
    pub messages_out: u64,
    /// Bytes of the client's messages.
    pub bytes_in: u64,
    /// Bytes of the guest's messages.
    pub bytes_out: u64,
    /// Bytes in and out that [`Observer::transferred`] has not reported.
    pub unreported: (u64, u64),
    /// The code it ended with (RFC 6455, section 7.4); 1006 if it broke.
    pub code: u16,
    /// The client ended it, not the guest and not the gateway.
    pub by_client: bool,
}
