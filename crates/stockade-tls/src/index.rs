//! Which certificate a client is shown.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::leaf::Leaf;
use super::names::{HostMap, Wildcard};

/// All certificates of one source.
#[derive(Debug)]
pub(crate) struct Index {
    leaves: Vec<Arc<Leaf>>,
    hosts: HostMap<Vec<usize>>,
}

/// Why there is no certificate to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLeaf {
    /// None has that name.
    UnknownName,
    /// There is one, but it has expired or is not valid yet.
    OutOfDate,
}

impl Index {
    pub(crate) fn new(leaves: Vec<Arc<Leaf>>) -> Self {
        let mut hosts: HostMap<Vec<usize>> = HostMap::new(Wildcard::OneLabel);
        for (i, leaf) in leaves.iter().enumerate() {
            for host in &leaf.hosts {
                hosts.entry(host).or_default().push(i);
            }
        }
        Self { leaves, hosts }
    }

    pub(crate) fn leaves(&self) -> &[Arc<Leaf>] {
        &self.leaves
    }

    /// Certificates that have the name; the host comes from `lookup_form`.
    pub(crate) fn named(&self, host: &str) -> Vec<&Arc<Leaf>> {
        let found = self.hosts.find(host).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(|i| self.leaves.get(*i)).collect()
    }

    /// The first certificate, and those for the same name with other keys.
    pub(crate) fn default(&self) -> Vec<&Arc<Leaf>> {
        let Some(first) = self.leaves.first() else {
            return Vec::new();
        };
        match first.hosts.first() {
            Some(host) => {
                let same = self.leaves.iter().filter(|leaf| leaf.hosts.contains(host));
                same.collect()
            }
            None => vec![first],
        }
    }
}

/// Chooses among certificates for the same name: one that is valid, and whose key the client knows to
/// verify. Elliptic curves come first, since they cost the server least.
pub(crate) fn choose<'a>(
    candidates: &[&'a Arc<Leaf>],
    hello: &ClientHello<'_>,
    now: SystemTime,
) -> Result<&'a Arc<Leaf>, NoLeaf> {
    if candidates.is_empty() {
        return Err(NoLeaf::UnknownName);
    }
    let valid = || {
        candidates
            .iter()
            .copied()
            .filter(|leaf| leaf.facts.is_valid_at(now))
    };
    let fits = valid().filter(|leaf| is_understood(leaf, hello));
    let best = fits.min_by_key(|leaf| match leaf.algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 | SignatureAlgorithm::ED448 => 1,
        _ => 2,
    });
    // Where none is understood, the handshake fails with the alert that says so.
    best.or_else(|| valid().next()).ok_or(NoLeaf::OutOfDate)
}

fn is_understood(leaf: &Leaf, hello: &ClientHello<'_>) -> bool {
    if leaf
        .key
        .key
        .choose_scheme(hello.signature_schemes())
        .is_none()
    {
        return false;
    }
    // In TLS 1.2 the suite names the kind of key as well; those of 1.3 do not.
    let rsa = leaf.algorithm == SignatureAlgorithm::RSA;
    hello.cipher_suites().iter().any(|suite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => rsa,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => !rsa,
        _ => false,
    })
}

/// The key to sign with, and the OCSP response while it is fresh.
pub(crate) fn certified(leaf: &Leaf, now: SystemTime) -> Arc<CertifiedKey> {
    match &leaf.staple {
        Some(staple) if staple.is_usable(now) => {
            let mut key = CertifiedKey::clone(&leaf.key);
            key.ocsp = Some(staple.der.clone());
            Arc::new(key)
        }
        _ => leaf.key.clone(),
    }
}
