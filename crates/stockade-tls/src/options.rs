//! What an operator may say about TLS. Plain data: nothing is read or checked before
//! [`TlsStore::load`](super::TlsStore::load).

use std::path::PathBuf;
use std::time::Duration;

/// TLS of one listener, or of several that are alike.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Certificates from files. The first is shown to clients that ask for a name that none has.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Refuses clients that ask for no name, or for one that no certificate has.
    pub strict_sni: bool,
    /// What clients must show, for all hosts not named in [`Self::hosts`].
    pub client_auth: ClientAuth,
    /// Hosts that ask for something else. The most specific pattern wins.
    pub hosts: Vec<HostClientAuth>,
    /// Offers HTTP/2 in addition to HTTP/1.1.
    pub http2: bool,
    /// What to do at the start about a certificate that is not valid now.
    pub on_expired: OnExpired,
    /// Handshakes that may compute at the same time; the others wait. Half of the cores by default.
    pub computing_handshakes: usize,
    /// Handshakes that may wait for their turn; more are refused.
    pub waiting_handshakes: usize,
}

impl Default for TlsOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            certificates: Vec::new(),
            min_version: TlsVersion::V12,
            strict_sni: false,
            client_auth: ClientAuth::default(),
            hosts: Vec::new(),
            http2: true,
            on_expired: OnExpired::default(),
            computing_handshakes: (cores / 2).max(1),
            waiting_handshakes: 4096,
        }
    }
}

/// A certificate with its chain, and the key that belongs to it. All are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificate of the server first, then those of its issuers.
    pub cert: PathBuf,
    /// The private key, not encrypted.
    pub key: PathBuf,
    /// An OCSP response to staple (DER), kept fresh by somebody else.
    pub ocsp: Option<PathBuf>,
}

/// A version of TLS. Older ones are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// What to do at the start about a certificate that has expired or is not valid yet. While running,
/// such a file never replaces one that is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpired {
    /// Starts, warns, and refuses handshakes that need that certificate. One forgotten site then
    /// does not keep the others down after a reboot.
    #[default]
    Refuse,
    /// Does not start.
    Fail,
}

/// What a client must show, and who has to have signed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// Whether a certificate is asked for.
    pub mode: ClientAuthMode,
    /// PEM files of the authorities that sign clients' certificates.
    pub ca: Vec<PathBuf>,
    /// Revocation lists, PEM or DER. Where there is one, a client whose status none of them states is
    /// refused.
    pub crl: Vec<PathBuf>,
    /// How strict the lists are.
    pub revocation: Revocation,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClientAuthMode {
    /// Never asked.
    #[default]
    None,
    /// Asked; who has none may go on, who shows a bad one may not.
    Optional,
    /// Only with a good certificate.
    Required,
}

/// How revocation lists are used. The default is the strict reading of RFC 5280, for the client's own
/// certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// Also the certificates between the client's and the authority's need a list.
    pub whole_chain: bool,
    /// Lets clients in whose issuer has no list.
    pub allow_unknown: bool,
    /// Uses a list after its `nextUpdate` has passed.
    pub allow_expired: bool,
}

/// What clients of a host must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostClientAuth {
    /// A host name, or `*.` and a domain for all names below it.
    pub host: String,
    /// Takes the place of [`TlsOptions::client_auth`].
    pub client_auth: ClientAuth,
}

/// What is watched while running, and how often.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// Reloads when files change. Without it only dates are checked.
    pub files: bool,
    /// Time between two checks of all files, where the kernel reported nothing.
    pub poll: Duration,
    /// Time that must pass without another change before the files are read.
    pub settle: Duration,
    /// Time between two checks of the dates of all certificates.
    pub expiry: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            files: true,
            poll: Duration::from_secs(5),
            settle: Duration::from_millis(300),
            expiry: Duration::from_secs(30),
        }
    }
}
