//! Connections and look-ups of the supervisor's own, for what a grant names: a database, a relay, a name.
//!
//! Invariants:
//! 1. The operator named the server, so private addresses are allowed. An address or a host that a guest chose goes
//!    through [`Egress`](crate::Egress), never through here.
//! 2. A name is resolved once, and the connection goes to an address that was the result.
//! 3. No error names an address, a certificate or what a server said: it may be shown to a guest.
//! 4. Each grant has a cache of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::Name;
use hickory_resolver::proto::rr::{RData, RecordType};
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stockade_http::Host;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::{AddressKind, AddressRules};
use crate::connect::{self, BrokerError, Stream};
use crate::race::race;
use crate::resolve::{ResolveFailure, Resolver, ResolverSource, failure};

/// Answers with more records than this are an attack or an error of their server.
const MOST_RECORDS: usize = 64;

/// The network as one grant has it. Cheap to clone; clones share a cache of names.
#[derive(Clone)]
pub struct Network {
    resolver: Arc<Resolver>,
    roots: Arc<RootCertStore>,
}

/// Why there is no connection. Its text may be shown to a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The host is not one.
    #[error("the name of the server is not valid: {0}")]
    Host(String),
    /// The name has no address.
    #[error("the name of the server was not resolved: {0}")]
    Resolve(String),
    /// No connection came about.
    #[error("no connection to the server: {0}")]
    Connect(io::ErrorKind),
    /// The server could not prove who it is, or refused the client.
    #[error("TLS with the server failed: {0}")]
    Tls(String),
    /// The deadline was reached.
    #[error("the connection to the server took too long")]
    TimedOut,
}

/// How TLS is spoken with a server of the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClientOptions {
    /// Files of PEM certificates. Where there are some, they alone are trusted; otherwise the public roots and the
    /// instance's `data_guard.ca`.
    pub ca: Vec<PathBuf>,
    /// The client's certificate chain and its private key, as PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the server proves; without it, the host that is dialled.
    pub server_name: Option<String>,
    /// Protocols to agree on by ALPN, the preferred first.
    pub alpn: Vec<Vec<u8>>,
}

/// TLS for connections to servers of the operator.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    server_name: Option<String>,
}

/// A type of DNS records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name that another name stands for.
    Cname,
    /// Mail servers.
    Mx,
    /// Name servers.
    Ns,
    /// The name of an address.
    Ptr,
    /// Where a service is.
    Srv,
    /// Texts.
    Txt,
}

/// What a DNS record says. Names end with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    /// The data of `A` and `AAAA`.
    Address(IpAddr),
    /// The data of `CNAME`, `NS` and `PTR`.
    Name(String),
    /// The data of `MX`.
    Mx {
        /// The lowest is preferred.
        preference: u16,
        /// The mail server.
        exchange: String,
    },
    /// The data of `SRV` (RFC 2782).
    Srv {
        /// The lowest is preferred.
        priority: u16,
        /// The share of requests among those of one priority.
        weight: u16,
        /// The service's port.
        port: u16,
        /// The service's host.
        target: String,
    },
    /// The data of `TXT`: its strings, of bytes.
    Txt(Vec<Vec<u8>>),
}

/// Why a look-up has no result. Its text may be shown to a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The text is not a name.
    #[error("it is not a DNS name: at most 253 letters, digits, hyphens, underscores and dots")]
    Name,
    /// The name does not exist, or has no such records.
    #[error("there is not a known name, or it has no such records")]
    NotFound,
    /// The answer has too many records.
    #[error("the answer has more than {MOST_RECORDS} records")]
    TooMany,
    /// An address of the answer is not public.
    #[error("the answer has a {0} address, and allow_private does not list it")]
    Private(AddressKind),
    /// No server answered, or one failed.
    #[error("the resolver failed")]
    Failed,
}

impl Network {
    pub(crate) fn new(source: ResolverSource, roots: Arc<RootCertStore>) -> Self {
        Self {
            resolver: Arc::new(Resolver::new(source)),
            roots,
        }
    }

    /// This network with names from these servers.
    #[must_use]
    pub fn asking(&self, servers: Vec<SocketAddr>) -> Self {
        Self::new(ResolverSource::Servers(servers), Arc::clone(&self.roots))
    }

    /// Connects to a server that the operator named, with TLS if there is a client for it. All of it ends by the
    /// deadline.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn dial(
        &self,
        host: &str,
        port: u16,
        tls: Option<&TlsClient>,
        deadline: Instant,
    ) -> Result<Stream, DialError> {
        let connecting = async {
            let parsed = Host::parse(host).map_err(|error| DialError::Host(error.to_string()))?;
            let addresses = self.resolver.addresses(&parsed).await;
            let addresses = addresses.map_err(|error| DialError::Resolve(error.to_string()))?;
            let tcp = race(&addresses, port).await;
            let tcp = tcp.map_err(|error| DialError::Connect(error.kind()))?;
            // A small request must not wait for the answer to the one before.
            let _ = tcp.set_nodelay(true);
            match tls {
                None => Ok(Stream::Left(tcp)),
                Some(tls) => Ok(Stream::Right(Box::new(tls.wrap(host, tcp).await?))),
            }
        };
        let connected = tokio::time::timeout_at(deadline, connecting).await;
        connected.unwrap_or(Err(DialError::TimedOut))
    }

    /// TLS with these options. The files are read now.
    ///
    /// # Errors
    /// A certificate or the key cannot be used.
    pub fn tls(&self, options: &TlsClientOptions) -> Result<TlsClient, BrokerError> {
        let roots = if options.ca.is_empty() {
            Arc::clone(&self.roots)
        } else {
            Arc::new(connect::only(&options.ca)?)
        };
        let client = match &options.certificate {
            Some((chain, key)) => Some(client_certificate(chain, key)?),
            None => None,
        };
        let config = connect::client_config(roots, client, &options.alpn);
        Ok(TlsClient {
            connector: TlsConnector::from(Arc::new(config.map_err(BrokerError::Tls)?)),
            server_name: options.server_name.clone(),
        })
    }

    /// Looks a name up, and refuses an answer with an address that is not public and not listed.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn lookup(
        &self,
        name: &str,
        kind: RecordKind,
        allow_private: &[IpNet],
    ) -> Result<Vec<RecordData>, LookupError> {
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))
            .map_err(|_| LookupError::Name)?;
        let resolver = self.resolver.records().map_err(|_| LookupError::Failed)?;
        let found = resolver.lookup(name, kind.record_type()).await;
        let found = found.map_err(|error| match failure(&error) {
            ResolveFailure::None => LookupError::NotFound,
            _ => LookupError::Failed,
        })?;
        // An answer also holds the aliases that led to it.
        let records = found.iter().filter_map(|data| kind.read(data));
        let records: Vec<_> = records.take(MOST_RECORDS + 1).collect();
        let rules = AddressRules {
            listed: allow_private,
            refused: &[],
        };
        for record in &records {
            if let RecordData::Address(address) = record {
                rules.check(*address).map_err(LookupError::Private)?;
            }
        }
        match records.len() {
            0 => Err(LookupError::NotFound),
            count if count > MOST_RECORDS => Err(LookupError::TooMany),
            _ => Ok(records),
        }
    }

    /// Whether the servers of names answer at all, a refusal included.
    ///
    /// # Errors
    /// None did.
    pub async fn resolver_answers(&self, within: Duration) -> Result<(), LookupError> {
        let root = self.lookup("", RecordKind::Ns, &[]);
        match tokio::time::timeout(within, root).await {
            Ok(Ok(_) | Err(LookupError::NotFound | LookupError::TooMany)) => Ok(()),
            _ => Err(LookupError::Failed),
        }
    }
}

impl TlsClient {
    /// The configuration for a protocol that begins TLS by itself. It checks the server's name.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(self.connector.config())
    }

    /// Begins TLS on a connection to `host` that is open, as a protocol with STARTTLS does. The caller bounds the
    /// time.
    ///
    /// # Errors
    /// The server could not prove who it is, or refused the client.
    pub async fn wrap(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let named = self.server_name.as_deref().unwrap_or(host);
        let name = match Host::parse(named) {
            Ok(Host::Address(address)) => Some(ServerName::from(address)),
            Ok(Host::Name(name)) => ServerName::try_from(name).ok(),
            Err(_) => None,
        };
        let name = name.ok_or_else(|| DialError::Tls("the name is not one for TLS".to_owned()))?;
        let connected = self.connector.connect(name, tcp).await;
        connected.map_err(|error| DialError::Tls(connect::tls_error(&error)))
    }
}

/// The name under which the DNS has the name of an address (RFC 1035, 3.5; RFC 3596, 2.5), without a dot at its end.
#[must_use]
pub fn reverse_name(address: IpAddr) -> String {
    let name = Name::from(address).to_ascii();
    name.trim_end_matches('.').to_owned()
}

/// The chain and the key of a client certificate.
fn client_certificate(chain: &[u8], key: &[u8]) -> Result<connect::ClientCertificate, BrokerError> {
    let fail = |what: &str, error: String| BrokerError::Tls(format!("{what}: {error}"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| fail("the client certificate cannot be read", error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| fail("the client's key cannot be read", error.to_string()))?;
    Ok((chain, key))
}

impl RecordKind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Cname => RecordType::CNAME,
            Self::Mx => RecordType::MX,
            Self::Ns => RecordType::NS,
            Self::Ptr => RecordType::PTR,
            Self::Srv => RecordType::SRV,
            Self::Txt => RecordType::TXT,
        }
    }

    /// The data of a record of this type; `None` for another type.
    fn read(self, data: &RData) -> Option<RecordData> {
        Some(match (self, data) {
            (Self::A, RData::A(address)) => RecordData::Address(address.0.into()),
            (Self::Aaaa, RData::AAAA(address)) => RecordData::Address(address.0.into()),
            (Self::Cname, RData::CNAME(name)) => RecordData::Name(name.0.to_ascii()),
            (Self::Ns, RData::NS(name)) => RecordData::Name(name.0.to_ascii()),
            (Self::Ptr, RData::PTR(name)) => RecordData::Name(name.0.to_ascii()),
            (Self::Mx, RData::MX(mx)) => RecordData::Mx {
                preference: mx.preference(),
                exchange: mx.exchange().to_ascii(),
            },
            (Self::Srv, RData::SRV(srv)) => RecordData::Srv {
                priority: srv.priority(),
                weight: srv.weight(),
                port: srv.port(),
                target: srv.target().to_ascii(),
            },
            (Self::Txt, RData::TXT(txt)) => {
                RecordData::Txt(txt.iter().map(|part| part.to_vec()).collect())
            }
            _ => return None,
        })
    }
}
