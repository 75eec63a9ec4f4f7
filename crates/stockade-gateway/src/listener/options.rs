//! Where clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use stockade_tls::TlsStore;

use crate::listener::flows::DatagramLimits;
use crate::target::StreamHandler;

/// One address that accepts connections.
#[derive(Debug, Clone)]
pub struct Listener {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// Where it listens. Two listeners never share an address.
    pub address: Address,
    /// TLS; plain without. May be shared by listeners.
    pub tls: Option<Arc<TlsStore>>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Whether HTTP/2 is spoken by prior knowledge on a plain listener. With TLS the client's choice
    /// among the store's protocols decides.
    pub http2: bool,
    /// What takes the connections as they are; without it they are HTTP. Datagrams are lost without it.
    pub streams: Option<StreamHandler>,
    /// The limits of datagrams.
    pub datagrams: DatagramLimits,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP. Port 0 lets the system choose. An IPv6 address takes no IPv4 connections, not even `[::]`.
    Tcp(SocketAddr),
    /// UDP, in the same way.
    Udp(SocketAddr),
    /// A Unix socket, made with mode 0660. A socket file that nobody listens on is replaced.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "{address}/udp"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whether connections begin with a header of HAProxy's PROXY protocol, version 1 or 2. It is taken only
/// from peers that are trusted proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Trusted proxies may send it.
    Optional,
    /// All connections must; connections of peers that are not trusted proxies are refused.
    Required,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {what} ({source})\n  fix: {fix}")]
pub struct ListenError {
    /// The address.
    pub address: Address,
    /// The step that failed.
    pub what: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// The system's error.
    pub source: std::io::Error,
}
