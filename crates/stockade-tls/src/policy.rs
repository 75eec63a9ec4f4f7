//! What clients of a host must show, as rustls enforces it.
//!
//! 1. Each policy has keys for session tickets of its own, so that a session made under one cannot be
//!    resumed under another (CVE-2025-23419).
//! 2. When authorities or lists change, the policy gets new ticket keys: a client that is no longer trusted
//!    cannot resume either.
//! 3. No early data: it could be replayed (RFC 8446, section 8).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::NoServerSessionStorage;
use rustls::{NamedGroup, ServerConfig};
use sha2::{Digest, Sha256};

use super::names::{HostMap, lookup_form};
use super::options::{ClientAuth, ClientAuthMode, TlsOptions, TlsVersion};
use super::resolver::Resolver;
use super::trust::Trust;

/// Equal for hosts that ask the same of their clients, in this and any other [`TlsStore`](super::TlsStore).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId([u8; 16]);

impl PolicyId {
    /// The policy that these options make. Files are compared by their paths.
    #[must_use]
    pub fn of(auth: &ClientAuth) -> Self {
        struct Digesting(Sha256);
        impl Hasher for Digesting {
            fn finish(&self) -> u64 {
                0
            }
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
        }
        let mut hasher = Digesting(Sha256::new());
        if auth.mode == ClientAuthMode::None {
            // Files that are never used make no difference.
            ClientAuth::default().hash(&mut hasher);
        } else {
            auth.hash(&mut hasher);
        }
        let digest: [u8; 32] = hasher.0.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyId({})", super::subject::hex(&self.0[..4]))
    }
}

/// One policy with what enforces it.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) config: Arc<ServerConfig>,
    /// `None` where no certificate is asked for.
    pub(crate) trust: Option<Trust>,
    /// Never the same for two policies of this process.
    pub(crate) generation: u64,
}

/// rustls' choice of what is safe, with the key exchange first that also a quantum computer could not
/// undo later (X25519MLKEM768); clients that do not know it get X25519.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .kx_groups
        .sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
    provider
}

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Policy {
    pub(crate) fn new(
        auth: &ClientAuth,
        trust: Option<Trust>,
        options: &TlsOptions,
        resolver: &Arc<Resolver>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let versions: &[_] = match options.min_version {
            TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)?;
        let builder = match &trust {
            Some(trust) => builder.with_client_cert_verifier(trust.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(resolver.clone());
        config.alpn_protocols = if options.http2 {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            vec![b"http/1.1".to_vec()]
        };
        // Tickets only: they cost no memory here and are bound to this policy's keys.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        config.max_early_data_size = 0;
        // Without it a resumed TLS 1.2 session need not belong to the same client (RFC 7627).
        config.require_ems = trust.is_some();
        Ok(Self {
            id: PolicyId::of(auth),
            config: Arc::new(config),
            trust,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        })
    }
}

/// All policies of a store.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) default: Arc<Policy>,
    pub(crate) hosts: HostMap<Arc<Policy>>,
}

impl Policies {
    /// The policy for a host as the client names it.
    pub(crate) fn of(&self, host: Option<&str>) -> &Arc<Policy> {
        if self.hosts.is_empty() {
            return &self.default;
        }
        host.map(lookup_form)
            .and_then(|host| self.hosts.find(&host))
            .unwrap_or(&self.default)
    }

    /// Each policy once.
    pub(crate) fn distinct(&self) -> Vec<&Arc<Policy>> {
        let mut all = vec![&self.default];
        for policy in self.hosts.values() {
            if !all.iter().any(|known| known.id == policy.id) {
                all.push(policy);
            }
        }
        all
    }
}
