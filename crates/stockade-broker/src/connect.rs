//! What connections and their TLS are made of, and why there is none.
//!
//! Invariant: nothing here looks up a name.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use stockade_http::Host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// TLS sessions that one instance remembers.
const SESSIONS: usize = 32;

/// Why there is no connection, in words for the guest: kinds of errors, no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("{0}")]
    Tcp(io::ErrorKind),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Proxy(ProxyFailure),
}

/// Why a proxy opened no connection, in words for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyFailure {
    #[error("the proxy was not reached")]
    Unreached,
    #[error("the proxy did not accept the credentials of its rule")]
    Credentials,
    #[error("the proxy refused the connection")]
    Refused,
    #[error("the proxy answered with the status {0}")]
    Status(u16),
    #[error("the proxy found the host unreachable")]
    Unreachable,
    #[error("the proxy broke its protocol")]
    Protocol,
}

impl ProxyFailure {
    /// Whether another address of the host may work.
    pub(crate) fn is_of_the_address(self) -> bool {
        matches!(self, Self::Unreachable | Self::Status(_))
    }
}

/// A connection: plain on the left, TLS on the right.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The bytes of a connection through a tunnel or a proxy.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection over the system's network on the left, one through a tunnel or a proxy on the right.
pub(crate) type Wire = Either<TcpStream, Box<dyn Duplex>>;

/// What is to be connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination<'a> {
    /// Addresses that were checked, at this port; the first that works.
    Addresses(&'a [IpAddr], u16),
    /// A host that nobody has resolved, for a proxy that does.
    Host(&'a Host, u16),
}

/// A broker that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file of trusted certificates cannot be used.
    #[error("cannot trust the certificates of {}: {why}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of a client certificate or its key cannot be used.
    #[error("cannot use the client certificate or key in {}: {why}", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The credentials of a rule's proxy are no user name and password.
    #[error(
        "the credentials of a proxy are not user:password, with 1 to 255 bytes each and no control characters"
    )]
    ProxyCredentials,
    /// A rule has both a tunnel and a proxy.
    #[error("a rule has both a tunnel (`via`) and a proxy; it can have one of them")]
    TunnelAndProxy,
    /// A client certificate, its key or a protocol that cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Certificates that are trusted: Mozilla's, and the operator's.
pub(crate) fn roots(extra: &[PathBuf]) -> Result<RootCertStore, BrokerError> {
    let public = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    with(public, extra)
}

/// Trusts these certificates alone.
pub(crate) fn only(paths: &[PathBuf]) -> Result<RootCertStore, BrokerError> {
    with(RootCertStore::empty(), paths)
}

pub(crate) fn with(
    mut roots: RootCertStore,
    paths: &[PathBuf],
) -> Result<RootCertStore, BrokerError> {
    for path in paths {
        let fail = |why: String| BrokerError::Roots {
            path: path.clone(),
            why,
        };
        let mut count = 0;
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| fail(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| fail(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(fail(
                "no certificate in it (PEM: -----BEGIN CERTIFICATE-----)".into(),
            ));
        }
    }
    Ok(roots)
}

/// Why a TLS handshake failed: what TLS says, or the kind of the connection's error.
pub(crate) fn tls_error(error: &io::Error) -> String {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => error.to_string(),
        None => error.kind().to_string(),
    }
}

/// A client's certificate chain and private key.
pub(crate) type ClientCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// TLS for connections that trust these roots. Sessions are remembered for them alone.
pub(crate) fn client_config(
    roots: Arc<RootCertStore>,
    client: Option<ClientCertificate>,
    protocols: &[Vec<u8>],
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())?,
    };
    config.alpn_protocols = protocols.to_vec();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}
