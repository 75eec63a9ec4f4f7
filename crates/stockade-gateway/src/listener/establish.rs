//! From an accepted socket to a stream that is ready for HTTP: the PROXY header and the TLS handshake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use stockade_tls::{AcceptError, ConnectionTls, Misdirected, TlsStore};

use crate::access::{ConnectionEvent, Observer, Refusal};
use crate::limits::Limits;
use crate::listener::connection_limits::ConnectionPermit;
use crate::listener::options::{Listener, ProxyProtocol};
use crate::listener::proxy_protocol::{self, ProxyError};
use crate::listener::stream::{ClientStream, PlainStream};

/// A connection whose next bytes are HTTP.
pub(crate) struct EstablishedConnection {
    pub(crate) stream: ClientStream,
    /// The other end, or the client that the PROXY header names.
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<TlsContext>,
}

/// The TLS of a connection, and what decides which hosts it may be used for.
pub(crate) struct TlsContext {
    pub(crate) connection: ConnectionTls,
    /// Made the handshake.
    store: Arc<TlsStore>,
    /// The listener as it is now: a reload may have changed which clients it trusts.
    listener: Arc<ArcSwap<Listener>>,
}

impl TlsContext {
    /// Checks that a request for `host` may be answered on this connection.
    pub(crate) fn check(&self, host: &str) -> Result<(), Misdirected> {
        let listener = self.listener.load();
        let store = listener.tls.as_ref().unwrap_or(&self.store);
        store.check(host, &self.connection)
    }
}

/// The address of peers of Unix sockets, which have none: they are on this machine.
pub(crate) const LOCAL_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Makes an accepted socket ready for HTTP.
pub(crate) struct Establisher<'a> {
    pub(crate) listener: &'a Listener,
    /// Where a reload replaces the listener.
    pub(crate) replaced: &'a Arc<ArcSwap<Listener>>,
    pub(crate) limits: &'a Limits,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) permit: &'a ConnectionPermit,
}

impl Establisher<'_> {
    /// Takes the PROXY header and makes the TLS handshake. `from_proxy`: the peer is a trusted proxy. The error is
    /// none if there is nothing to report.
    pub(crate) async fn establish(
        &self,
        mut plain: PlainStream,
        mut peer: SocketAddr,
        from_proxy: bool,
    ) -> Result<EstablishedConnection, Option<Refusal>> {
        if let Some(client) = self.read_proxy_header(&mut plain, peer, from_proxy).await? {
            peer = client;
            // The connections of a proxy count for its clients.
            self.permit
                .count_for(peer.ip(), self.limits.connections_per_address)?;
        }
        let Some(store) = &self.listener.tls else {
            return Ok(EstablishedConnection {
                stream: ClientStream::Left(plain),
                peer,
                tls: None,
            });
        };
        let began = Instant::now();
        match store.accept(plain).await {
            Ok((stream, connection)) => {
                let took = began.elapsed();
                let event = ConnectionEvent::Secured { took };
                self.observer.connection(&self.listener.name, event);
                Ok(EstablishedConnection {
                    stream: ClientStream::Right(Box::new(stream)),
                    peer,
                    tls: Some(TlsContext {
                        connection,
                        store: Arc::clone(store),
                        listener: Arc::clone(self.replaced),
                    }),
                })
            }
            Err(AcceptError::ChallengeAnswered) => Err(None),
            Err(error) => {
                tracing::debug!(%peer, reason = error.reason(), %error, "a TLS handshake failed");
                Err(Some(Refusal::Handshake))
            }
        }
    }

    /// Reads the client's address from the PROXY header, where the listener takes one from this peer.
    async fn read_proxy_header(
        &self,
        plain: &mut PlainStream,
        peer: SocketAddr,
        from_proxy: bool,
    ) -> Result<Option<SocketAddr>, Option<Refusal>> {
        let required = match (self.listener.proxy_protocol, from_proxy) {
            (ProxyProtocol::Required, false) => return Err(Some(Refusal::ProxyProtocol)),
            (ProxyProtocol::Off, _) | (ProxyProtocol::Optional, false) => return Ok(None),
            (mode, true) => mode == ProxyProtocol::Required,
        };
        match proxy_protocol::take_header(plain, required).await {
            Ok(client) => {
                Ok(client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port())))
            }
            Err(ProxyError::Io(_)) => Err(None),
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection was refused");
                Err(Some(Refusal::ProxyProtocol))
            }
        }
    }
}
