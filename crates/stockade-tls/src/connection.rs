//! What is known of a client's TLS connection, and whether a request on it may go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ServerConnection;
use rustls::pki_types::{CertificateDer, UnixTime};
use stockade_http::ClientTls;

use super::policy::{Policy, PolicyId};
use super::subject::client_certificate;

/// Seconds after which a client's certificate is verified again: lists end while connections live on.
const VERIFY_AGAIN: u64 = 300;

/// A client's TLS connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionTls {
    /// Under which the handshake was made.
    pub policy: PolicyId,
    /// What handlers may know.
    pub client: Arc<ClientTls>,
    /// The client chose HTTP/2.
    pub http2: bool,
    /// The session was resumed: no certificate was verified now, and no key exchange proved one.
    pub resumed: bool,
    verified: Option<Arc<Verified>>,
}

/// A client's certificate, and when it was found good.
#[derive(Debug)]
struct Verified {
    chain: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
    generation: AtomicU64,
    /// Seconds since 1970.
    at: AtomicU64,
}

/// Why a request must not be answered on this connection. The client gets 421 (RFC 9110, section
/// 15.5.20) and may come again on another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misdirected {
    /// The host asks for other client certificates than the name that the connection was opened with.
    #[error("this host asks for another kind of client certificate than {0} does")]
    OtherPolicy(String),
    /// The client's certificate was good when the connection began, but is no longer.
    #[error("the client's certificate is no longer accepted: {0}")]
    NoLongerTrusted(String),
}

impl ConnectionTls {
    /// Reads the facts of a finished handshake. `None` where the client's certificate cannot be decoded.
    pub(crate) fn new(
        session: &ServerConnection,
        policy: &Policy,
        now: SystemTime,
    ) -> Option<Self> {
        let chain = session.peer_certificates().unwrap_or(&[]);
        let certificate = match chain.first() {
            Some(own) => Some(client_certificate(own)?),
            None => None,
        };
        let (certificate, verified) = match certificate {
            Some((facts, not_after)) => {
                let verified = Verified {
                    chain: chain
                        .iter()
                        .cloned()
                        .map(CertificateDer::into_owned)
                        .collect(),
                    not_after,
                    generation: AtomicU64::new(policy.generation),
                    at: AtomicU64::new(seconds(now)),
                };
                (Some(facts), Some(Arc::new(verified)))
            }
            None => (None, None),
        };
        let client = ClientTls {
            version: version(session).to_owned(),
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default()
                .to_owned(),
            sni: session.server_name().map(str::to_ascii_lowercase),
            certificate,
        };
        Some(Self {
            policy: policy.id,
            client: Arc::new(client),
            http2: session.alpn_protocol() == Some(b"h2"),
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            verified,
        })
    }

    /// For tests of what decides by it.
    #[cfg(test)]
    pub(crate) fn of_test(policy: PolicyId, client: ClientTls) -> Self {
        Self {
            policy,
            client: Arc::new(client),
            http2: false,
            resumed: false,
            verified: None,
        }
    }

    /// Checks a request against the policy of the host that it names.
    pub(crate) fn check(&self, policy: &Policy, now: SystemTime) -> Result<(), Misdirected> {
        if self.policy != policy.id {
            let name = self.client.sni.clone().unwrap_or_else(|| "none".to_owned());
            return Err(Misdirected::OtherPolicy(name));
        }
        match &self.verified {
            Some(verified) => verified.check(policy, now, false),
            None => Ok(()),
        }
    }

    /// Verifies the certificate of a resumed session: rustls takes it from the ticket as it is.
    pub(crate) fn check_resumed(
        &self,
        policy: &Policy,
        now: SystemTime,
    ) -> Result<(), Misdirected> {
        match &self.verified {
            Some(verified) if self.resumed => verified.check(policy, now, true),
            _ => Ok(()),
        }
    }
}

impl Verified {
    fn check(&self, policy: &Policy, now: SystemTime, always: bool) -> Result<(), Misdirected> {
        if self.not_after < now {
            return Err(Misdirected::NoLongerTrusted("it has expired".to_owned()));
        }
        let fresh = self.generation.load(Ordering::Relaxed) == policy.generation
            && seconds(now).abs_diff(self.at.load(Ordering::Relaxed)) < VERIFY_AGAIN;
        if fresh && !always {
            return Ok(());
        }
        let (Some(trust), Some((own, issuers))) = (&policy.trust, self.chain.split_first()) else {
            return Err(Misdirected::NoLongerTrusted("none is asked for".to_owned()));
        };
        let at = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        trust
            .verifier
            .verify_client_cert(own, issuers, at)
            .map_err(|e| Misdirected::NoLongerTrusted(e.to_string()))?;
        self.generation.store(policy.generation, Ordering::Relaxed);
        self.at.store(seconds(now), Ordering::Relaxed);
        Ok(())
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn version(session: &ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    }
}
