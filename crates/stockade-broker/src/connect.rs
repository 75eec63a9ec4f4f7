//! Connections to checked addresses, with TLS where the target asks for it.
//!
//! Invariant: nothing here looks up a name. The address comes from the check, the name that TLS
//! proves from the target.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stockade_http::Host;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::sockets::ClientCertificate;
use crate::target::Target;

/// After this time without an answer the next address is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried; all were checked.
const MOST_TRIED: usize = 6;
/// TLS sessions that one instance remembers.
const SESSIONS: usize = 32;

/// Why there is no connection, in words for the guest: kinds of errors, no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("{0}")]
    Tcp(io::ErrorKind),
    #[error("{0}")]
    Tls(String),
}

/// What is spoken over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/2 if the server offers it, else HTTP/1.1.
    Http,
    /// HTTP/1.1, to be upgraded.
    WebSocket,
}

/// A connection: plain on the left, TLS on the right.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Whether HTTP/2 was agreed on.
pub(crate) fn is_h2(stream: &Stream) -> bool {
    match stream {
        Either::Left(_) => false,
        Either::Right(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    }
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
    /// A client certificate or its key cannot be used.
    #[error("cannot use the client certificate or key in {}: {why}", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Certificates that are trusted: Mozilla's, and the operator's.
pub(crate) fn roots(extra: &[PathBuf]) -> Result<RootCertStore, BrokerError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for path in extra {
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

/// Makes one instance's connections. TLS sessions are remembered for it alone.
pub(crate) struct Connector {
    roots: Arc<RootCertStore>,
    http: OnceLock<Result<TlsConnector, String>>,
    websocket: OnceLock<Result<TlsConnector, String>>,
}

impl Connector {
    pub(crate) fn new(roots: Arc<RootCertStore>) -> Self {
        Self {
            roots,
            http: OnceLock::new(),
            websocket: OnceLock::new(),
        }
    }

    /// Connects to one of `addresses`, whichever answers first. Says which.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        addresses: &[IpAddr],
        speaks: Speaks,
    ) -> Result<(Stream, IpAddr), ConnectFailure> {
        let tcp = race(addresses, target.port).await;
        let tcp = tcp.map_err(|error| ConnectFailure::Tcp(error.kind()))?;
        let address = tcp
            .peer_addr()
            .map_err(|error| ConnectFailure::Tcp(error.kind()))?
            .ip();
        // A small request must not wait for the answer to the one before.
        let _ = tcp.set_nodelay(true);
        if !target.scheme.is_secure() {
            return Ok((Stream::Left(tcp), address));
        }
        let connector = match speaks {
            Speaks::Http => self.http.get_or_init(|| self.tls(&[b"h2", b"http/1.1"])),
            Speaks::WebSocket => self.websocket.get_or_init(|| self.tls(&[b"http/1.1"])),
        };
        let connector = connector
            .as_ref()
            .map_err(|why| ConnectFailure::Tls(why.clone()))?;
        let name = match &target.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| ConnectFailure::Tls("the name is not one for TLS".to_owned()))?,
        };
        let stream = connector.connect(name, tcp).await;
        let stream = stream.map_err(|error| tls_failure(&error))?;
        Ok((Stream::Right(Box::new(stream)), address))
    }

    fn tls(&self, protocols: &[&[u8]]) -> Result<TlsConnector, String> {
        let mut config = tls_client(Arc::clone(&self.roots), None)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A certificate chain and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn tls_client(
    roots: Arc<RootCertStore>,
    identity: Option<Identity>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// TLS that trusts Mozilla's roots and those in `ca`, and shows `client` to servers that ask.
pub(crate) fn client_config(
    ca: &[PathBuf],
    client: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, BrokerError> {
    let roots = Arc::new(roots(ca)?);
    let at = |path: &Path, why: String| BrokerError::Client {
        path: path.to_owned(),
        why,
    };
    let identity = client
        .map(|client| {
            let certificates = CertificateDer::pem_file_iter(&client.certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| at(&client.certificate, error.to_string()))?;
            if certificates.is_empty() {
                let why = "no certificate in it (PEM: -----BEGIN CERTIFICATE-----)";
                return Err(at(&client.certificate, why.to_owned()));
            }
            let key = PrivateKeyDer::from_pem_file(&client.key)
                .map_err(|error| at(&client.key, error.to_string()))?;
            Ok((certificates, key))
        })
        .transpose()?;
    let config = tls_client(roots, identity).map_err(|why| {
        let path = client.map_or(Path::new(""), |client| client.key.as_path());
        at(path, why)
    })?;
    Ok(Arc::new(config))
}

/// Why a handshake failed, without the server's words.
pub(crate) fn tls_failure(error: &io::Error) -> ConnectFailure {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => ConnectFailure::Tls(error.to_string()),
        None => ConnectFailure::Tls(error.kind().to_string()),
    }
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
