//! What all requests of a connection share.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use stockade_http::Scheme;

use crate::access::{ConnectionReport, Refusal};
use crate::http::connection_state::ConnectionState;
use crate::listener::connection_limits::ConnectionPermit;
use crate::listener::establish::TlsContext;
use crate::state::GatewayState;

/// What all requests of a connection share. Dropping the last clone of it reports the connection as closed.
pub(crate) struct Connection {
    pub(crate) gateway: Arc<GatewayState>,
    pub(crate) listener: Arc<str>,
    /// The other end, or the client that the PROXY header names.
    pub(crate) peer: SocketAddr,
    /// The peer's address as headers have it, made once for all requests.
    pub(crate) peer_text: Option<HeaderValue>,
    pub(crate) tls: Option<TlsContext>,
    pub(crate) state: Arc<ConnectionState>,
    pub(crate) permit: Arc<ConnectionPermit>,
    pub(crate) _report: ConnectionReport,
}

impl Connection {
    pub(crate) fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// Reports that the client was refused.
    pub(crate) fn report_refused(&self, refusal: Refusal) {
        let peer = self.peer.ip();
        self.gateway.observer.refused(refusal, Some(peer));
    }
}
