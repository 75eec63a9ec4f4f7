//! What a guest may ask of its host.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_capability::{Capability, Owner, Pipe};
use stockade_http::{Body, UpstreamSocket};
use stockade_protocol::GuestError;
use stockade_trace::Trace;
use strum::IntoStaticStr;

/// Whether a connection that a guest opens has TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureTransport {
    /// None, and it cannot start.
    Off,
    /// From its first byte.
    On,
    /// None at first; it starts when the guest says so.
    StartTls,
}

/// What a guest opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketProtocol {
    /// A connection.
    Tcp,
    /// Datagrams: each is its length in two bytes, the higher one first, and its data.
    Udp,
}

/// What carries a connection of a client. The guest's runtime has the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Transport {
    /// TCP or a Unix socket.
    Tcp,
    /// TLS over one of these.
    Tls,
    /// Datagrams over UDP: each is its length in two bytes, the higher one first, and its data.
    Udp,
}

/// `connect(address, options)`, or `datagram(address)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// A name or an address, as the guest wrote it.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// A connection, or datagrams.
    pub protocol: SocketProtocol,
    /// Whether it has TLS.
    pub secure: SecureTransport,
    /// The name that the server must prove, where it is not `host`.
    pub server_name: Option<String>,
}

/// What the guests of one instance may ask of their host. Every argument is hostile. When a guest cancels what it
/// asked for, the future is dropped.
pub trait Services: Send + Sync + 'static {
    /// `fetch(url)`. The guest follows redirects itself.
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>>;

    /// `new WebSocket(url, protocols)`.
    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>>;

    /// `connect(address)` of `cloudflare:sockets`.
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let ConnectRequest { host, port, .. } = request;
        refuse(format!(
            "connection to {host}:{port}: nothing may be reached"
        ))
    }

    /// What the instance was granted as `env.NAME`.
    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>>;

    /// Begins the trace of something that no client asked for; none where nothing is traced.
    fn begin_trace(&self) -> Option<Trace> {
        None
    }

    /// A mirror of the instance has ended: every capability closes what that mirror holds open.
    fn ended(&self, owner: &Owner);
}

/// Refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoServices;

fn refuse<T: Send + 'static>(what: String) -> BoxFuture<'static, Result<T, GuestError>> {
    Box::pin(std::future::ready(Err(GuestError::new(what))))
}

impl Services for NoServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        refuse(format!(
            "fetch of {}: nothing may be reached",
            request.uri()
        ))
    }

    fn websocket(
        &self,
        url: String,
        _protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        refuse(format!("WebSocket to {url}: nothing may be reached"))
    }

    fn capability(&self, _name: &str) -> Option<Arc<dyn Capability>> {
        None
    }

    fn ended(&self, _owner: &Owner) {}
}
