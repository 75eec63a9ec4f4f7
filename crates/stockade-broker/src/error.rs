//! Why a request of a guest failed.

use std::time::Duration;

use crate::audit::Refusal;

/// A request or WebSocket that failed. Its text may be shown to the guest: it names no address that
/// the guest did not name, and no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// Policy or a budget refused it. It has been reported to the operator's audit.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// What the guest asked for is not a request.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The part of the request.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The name could not be resolved; nothing was sent.
    #[error("{target}: the name did not resolve: {why}")]
    Resolve {
        /// `scheme://host:port`.
        target: String,
        /// What the resolver said.
        why: String,
    },
    /// No connection came about.
    #[error("{target}: no connection: {why}")]
    Connect {
        /// `scheme://host:port`.
        target: String,
        /// What went wrong.
        why: String,
    },
    /// The server could not prove who it is, or spoke no TLS that is acceptable.
    #[error("{target}: TLS failed: {why}")]
    Tls {
        /// `scheme://host:port`.
        target: String,
        /// What went wrong.
        why: String,
    },
    /// Something took too long.
    #[error("{target}: {what} took longer than {limit:?}")]
    TimedOut {
        /// `scheme://host:port`.
        target: String,
        /// What was waited for.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The server broke off, or broke the protocol.
    #[error("{target}: {why}")]
    Upstream {
        /// `scheme://host:port`.
        target: String,
        /// What went wrong.
        why: String,
    },
}

impl EgressError {
    /// The refusal, if it was one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The name that JavaScript gives such an error: `fetch` fails with a `TypeError`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "TimeoutError",
            _ => "TypeError",
        }
    }
}
