//! Connections to addresses, and what TLS is made of.
//!
//! Invariant: nothing here looks up a name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// After this time without an answer the next address is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried; all were checked.
pub(crate) const MOST_TRIED: usize = 6;
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

/// These certificates alone.
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

/// Connects to one of these addresses without a proxy. Says which.
pub(crate) async fn direct(
    addresses: &[IpAddr],
    port: u16,
) -> Result<(TcpStream, IpAddr), ConnectFailure> {
    let tcp = race(addresses, port).await;
    let tcp = tcp.map_err(|error| ConnectFailure::Tcp(error.kind()))?;
    let peer = tcp.peer_addr();
    let address = peer
        .map_err(|error| ConnectFailure::Tcp(error.kind()))?
        .ip();
    // A small request must not wait for the answer to the one before.
    let _ = tcp.set_nodelay(true);
    Ok((tcp, address))
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

/// Tries addresses one after another without waiting long for each. The last error, if all fail.
pub(crate) async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut rest = addresses
        .iter()
        .take(MOST_TRIED)
        .map(|&ip| SocketAddr::new(ip, port));
    let mut trying = FuturesUnordered::new();
    trying.extend(rest.next().map(TcpStream::connect));
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        tokio::select! {
            done = trying.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    last = error;
                    match rest.next() {
                        Some(address) => trying.push(TcpStream::connect(address)),
                        None if trying.is_empty() => return Err(last),
                        None => {}
                    }
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER) => {
                trying.extend(rest.next().map(TcpStream::connect));
            }
        }
    }
}
