//! Connections to checked addresses, with TLS where the target asks for it.
//!
//! Invariant: nothing here looks up a name. The address comes from the check, the name that TLS
//! proves from the target.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stockade_http::Host;
use stockade_wireguard::TunnelStream;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::race::race;
use crate::target::Target;
use crate::via::Via;

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
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What carries a guest's connection: one of the system on the left, one within a tunnel on the right.
pub(crate) type Carrier = Either<TcpStream, TunnelStream>;

/// A guest's connection: plain on the left, TLS on the right.
pub(crate) type Secured = Either<Carrier, Box<TlsStream<Carrier>>>;

/// Whether HTTP/2 was agreed on.
pub(crate) fn is_h2(stream: &Secured) -> bool {
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
    /// A file of a client certificate or its key cannot be used.
    #[error("cannot use the client certificate or key in {}: {why}", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
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

fn with(mut roots: RootCertStore, paths: &[PathBuf]) -> Result<RootCertStore, BrokerError> {
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
        via: Option<&Via>,
    ) -> Result<(Secured, IpAddr), ConnectFailure> {
        let carrier = carry(addresses, target.port, via).await;
        let (carrier, address) = carrier.map_err(|error| ConnectFailure::Tcp(error.kind()))?;
        let address = address.ip();
        if !target.scheme.is_secure() {
            return Ok((Secured::Left(carrier), address));
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
        let stream = connector.connect(name, carrier).await;
        let stream = stream.map_err(|error| ConnectFailure::Tls(tls_error(&error)))?;
        Ok((Secured::Right(Box::new(stream)), address))
    }

    fn tls(&self, protocols: &[&[u8]]) -> Result<TlsConnector, String> {
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let config = client_config(self.roots.clone(), None, &protocols)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }
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

/// Connects to one of `addresses`, through the tunnel where there is one. Says to which.
pub(crate) async fn carry(
    addresses: &[IpAddr],
    port: u16,
    via: Option<&Via>,
) -> io::Result<(Carrier, SocketAddr)> {
    if let Some(via) = via {
        let (stream, address) = via.connect(addresses, port).await?;
        return Ok((Carrier::Right(stream), address));
    }
    let tcp = race(addresses, port).await?;
    let address = tcp.peer_addr()?;
    // A small request must not wait for the answer to the one before.
    let _ = tcp.set_nodelay(true);
    Ok((Carrier::Left(tcp), address))
}
