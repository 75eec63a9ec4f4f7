//! Answers to an ACME server's challenges, while they are open.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::names::lookup_form;

/// The protocol that an ACME server offers when it checks a challenge over TLS (RFC 8737, section 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// Open challenges by name and token, and by name.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    http: RwLock<HashMap<(String, String), String>>,
    tls: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

/// Why a challenge over TLS cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error("the certificate for a challenge cannot be made: {0}")]
pub(crate) struct ChallengeError(String);

impl Challenges {
    /// The text at `/.well-known/acme-challenge/TOKEN` of a host (RFC 8555, section 8.3).
    pub(crate) fn http(&self, host: &str, token: &str) -> Option<String> {
        let http = self.http.read();
        if http.is_empty() {
            return None;
        }
        http.get(&(lookup_form(host), token.to_owned())).cloned()
    }

    pub(crate) fn open_http(&self, host: &str, token: &str, answer: &str) {
        let key = (lookup_form(host), token.to_owned());
        self.http.write().insert(key, answer.to_owned());
    }

    /// Answers with the digest of the key authorisation in a certificate (RFC 8737, section 3).
    pub(crate) fn open_tls(
        &self,
        host: &str,
        digest: &[u8],
        provider: &CryptoProvider,
    ) -> Result<(), ChallengeError> {
        let wrong = |e: &dyn std::fmt::Display| ChallengeError(e.to_string());
        let mut params = CertificateParams::new([host.to_owned()]).map_err(|e| wrong(&e))?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(|e| wrong(&e))?;
        let certificate = params.self_signed(&key).map_err(|e| wrong(&e))?;
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let private = provider
            .key_provider
            .load_private_key(private.into())
            .map_err(|e| wrong(&e))?;
        // Not `from_der`: it refuses the critical extension that this certificate is made for.
        let certified = CertifiedKey::new(vec![certificate.der().clone()], private);
        self.tls
            .write()
            .insert(lookup_form(host), Arc::new(certified));
        Ok(())
    }

    /// Forgets all challenges of a host.
    pub(crate) fn close(&self, host: &str) {
        let host = lookup_form(host);
        self.http.write().retain(|(name, _), _| *name != host);
        self.tls.write().remove(&host);
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = lookup_form(hello.server_name()?);
        self.tls.read().get(&name).cloned()
    }
}

/// Speaks with nobody but an ACME server: one protocol, no clients' certificates, no sessions.
pub(crate) fn config(
    challenges: &Arc<Challenges>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(challenges.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
