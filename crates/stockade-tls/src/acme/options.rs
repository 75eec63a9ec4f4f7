//! What an operator may say about ACME. Plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// An ACME server, and what to ask it for.
#[derive(Debug, Clone)]
pub struct AcmeOptions {
    /// URL of the server's directory, such as `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// Where the server may write to, such as `mailto:admin@example.com`.
    pub contact: Vec<String>,
    /// The operator agrees to the server's terms of service. Without it there is no account.
    pub terms_agreed: bool,
    /// The certificates to keep, each with its names. No wildcards: they need a challenge over DNS.
    pub certificates: Vec<Vec<String>>,
    /// How names are proven.
    pub challenge: AcmeChallenge,
    /// A folder for the account's key and the certificates, made with mode 0700.
    pub cache: PathBuf,
    /// PEM file of the authorities that the server itself is verified with, in place of the public ones.
    pub server_ca: Option<PathBuf>,
    /// The account with the authority that the ACME account is to belong to.
    pub external_account: Option<ExternalAccount>,
    /// Time before the first order, for listeners to be opened.
    pub wait: Duration,
    /// Time to wait after a failure, doubled after each further one up to a day. Let's Encrypt takes five
    /// failures an hour for a name; two minutes stay within that.
    pub retry: Duration,
}

impl Default for AcmeOptions {
    fn default() -> Self {
        Self {
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contact: Vec::new(),
            terms_agreed: false,
            certificates: Vec::new(),
            challenge: AcmeChallenge::default(),
            cache: PathBuf::from("acme"),
            server_ca: None,
            external_account: None,
            wait: Duration::from_secs(2),
            retry: Duration::from_secs(120),
        }
    }
}

/// How the server is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcmeChallenge {
    /// A file over plain HTTP, port 80 (RFC 8555, section 8.3).
    #[default]
    Http01,
    /// A certificate over TLS, port 443 (RFC 8737).
    TlsAlpn01,
}

/// Names an account with the authority (RFC 8555, section 7.3.4).
#[derive(Clone)]
pub struct ExternalAccount {
    /// The key's identifier.
    pub id: String,
    /// The key for HMAC-SHA256.
    pub key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
