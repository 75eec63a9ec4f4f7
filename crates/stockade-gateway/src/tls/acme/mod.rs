//! Certificates by ACME (RFC 8555).

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::ServerConfig;

use super::index::Index;

/// The protocol that an ACME server offers when it checks a challenge over TLS (RFC 8737, section 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// Keeps certificates of an ACME server, renewed in time.
#[derive(Debug)]
pub struct Acme {
    index: ArcSwap<Index>,
    challenges: Arc<ServerConfig>,
}

impl Acme {
    pub(crate) fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }

    pub(crate) fn challenge_config(&self) -> Arc<ServerConfig> {
        self.challenges.clone()
    }
}
