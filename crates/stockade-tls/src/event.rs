//! What happens to certificates, for logs and metrics.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::problem::TlsError;

/// Learns what happens. Calls are short and must not block.
pub trait TlsObserver: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &TlsEvent);
}

/// For those who do not want to know; events are still logged.
impl TlsObserver for () {
    fn event(&self, _: &TlsEvent) {}
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TlsEvent {
    /// A certificate is used from now on.
    Loaded(Arc<CertificateFacts>),
    /// Authorities or revocation lists of clients are used from now on.
    ClientAuthLoaded {
        /// Authorities that are trusted.
        authorities: usize,
        /// Lists in use.
        lists: usize,
    },
    /// A changed file cannot be used; what was loaded before stays in use.
    ReloadFailed(Arc<TlsError>),
    /// A certificate, an authority of clients or a revocation list ends soon. Reported once for each of
    /// 30, 7 and 1 days.
    Expiring {
        /// What it is and of whom.
        what: String,
        /// Its file, where it came from one.
        file: Option<PathBuf>,
        /// Its end.
        not_after: SystemTime,
        /// What is left.
        left: Duration,
    },
    /// It has ended: what needs it is refused from now on.
    Expired {
        /// What it is and of whom.
        what: String,
        /// Its file, where it came from one.
        file: Option<PathBuf>,
        /// Its end.
        not_after: SystemTime,
    },
    /// Something that works but should be changed, such as a key that everybody may read.
    Warning(String),
    /// A certificate is asked for from an ACME server.
    AcmeOrdered {
        /// Its names.
        domains: Vec<String>,
    },
    /// The ACME server gave a certificate.
    AcmeIssued {
        /// Its names.
        domains: Vec<String>,
        /// Its end.
        not_after: SystemTime,
    },
    /// It gave none.
    AcmeFailed {
        /// The names asked for.
        domains: Vec<String>,
        /// What went wrong.
        why: String,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// The ACME server read the answer to its challenge over TLS.
    AcmeChallenge {
        /// The name that it checks.
        domain: String,
    },
}

/// A certificate in use, for metrics and `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Such as `EC 256` or `RSA 2048`.
    pub key: String,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid to.
    pub not_after: SystemTime,
    /// SHA-256 of the DER form, hexadecimal.
    pub fingerprint_sha256: String,
    /// Its file; `None` for one by ACME.
    pub file: Option<PathBuf>,
}

impl CertificateFacts {
    /// Says whether handshakes may use it at `now`.
    #[must_use]
    pub(crate) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Logs an event and hands it on.
pub(crate) fn emit(observer: &dyn TlsObserver, event: TlsEvent) {
    match &event {
        TlsEvent::Loaded(facts) => tracing::info!(
            names = facts.names.join(" "),
            key = facts.key,
            fingerprint = facts.fingerprint_sha256,
            file = facts.file.as_ref().map(|file| file.display().to_string()),
            "certificate loaded"
        ),
        TlsEvent::ClientAuthLoaded { authorities, lists } => {
            tracing::info!(authorities, lists, "authorities of clients loaded");
        }
        TlsEvent::ReloadFailed(error) => tracing::error!(
            problems = error.problems.len(),
            "TLS files changed but cannot be used, the old ones stay in use: {error}"
        ),
        TlsEvent::Expiring { what, left, .. } => {
            tracing::warn!(hours_left = left.as_secs() / 3600, "{what} expires soon");
        }
        TlsEvent::Expired { what, .. } => {
            tracing::error!("{what} has expired: what needs it is refused");
        }
        TlsEvent::Warning(text) => tracing::warn!("{text}"),
        TlsEvent::AcmeOrdered { domains } => {
            tracing::info!(domains = domains.join(" "), "certificate ordered by ACME");
        }
        TlsEvent::AcmeIssued { domains, .. } => {
            tracing::info!(domains = domains.join(" "), "certificate issued by ACME");
        }
        TlsEvent::AcmeFailed {
            domains,
            why,
            retry_in,
        } => tracing::error!(
            domains = domains.join(" "),
            retry_in_seconds = retry_in.as_secs(),
            "no certificate by ACME: {why}"
        ),
        TlsEvent::AcmeChallenge { domain } => {
            tracing::info!(domain, "ACME challenge answered");
        }
    }
    observer.event(&event);
}
