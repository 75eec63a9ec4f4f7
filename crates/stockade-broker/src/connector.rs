//! Connections to checked addresses, with TLS where the target asks for it, by what a rule says carries them.
//!
//! Invariant: nothing here looks up the name of a target. The address comes from the check, the name that TLS
//! proves from the target.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use stockade_http::Host;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::carrier::Carrier;
use crate::connect::{BrokerError, ConnectFailure, Destination, Wire, tls_error};
use crate::policy::Rule;
use crate::resolve::Resolver;
use crate::rule_tls::{ClientCertificate, RuleTls};
use crate::target::Target;
use crate::via::Ways;

/// What is offered by ALPN.
const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
const WEBSOCKET: &[&[u8]] = &[b"http/1.1"];

/// What is spoken over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/2 if the server offers it, else HTTP/1.1.
    Http,
    /// HTTP/1.1, to be upgraded.
    WebSocket,
}

/// A connection for a guest: plain on the left, TLS on the right.
pub(crate) type GuestStream = Either<Wire, Box<TlsStream<Wire>>>;

/// How requests over a connection name their target.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// By path and query.
    Origin,
    /// By the whole URL, because the other end is a proxy, which gets this authorization.
    Absolute(Option<HeaderValue>),
}

/// An open connection.
pub(crate) struct Connected {
    pub(crate) stream: GuestStream,
    /// The address that was chosen; `None` where a proxy resolves the name.
    pub(crate) address: Option<IpAddr>,
    pub(crate) form: Form,
}

/// Whether HTTP/2 was agreed on.
pub(crate) fn is_h2(stream: &GuestStream) -> bool {
    match stream {
        Either::Left(_) => false,
        Either::Right(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    }
}

/// What a connector is made of.
pub(crate) struct ConnectorParts<'a> {
    /// Certificates that all rules of the instance trust.
    pub(crate) roots: Arc<RootCertStore>,
    /// One of the rules that it is for.
    pub(crate) rule: &'a Rule,
    /// The tunnels that rules name.
    pub(crate) ways: &'a Ways,
    pub(crate) resolver: &'a Arc<Resolver>,
}

/// Makes one instance's connections, for the rules that have the same certificates, and the same proxy or tunnel. TLS
/// sessions are remembered for it alone.
pub(crate) struct Connector {
    roots: Arc<RootCertStore>,
    ca: Vec<PathBuf>,
    client: Option<ClientCertificate>,
    http: OnceLock<Result<RuleTls, String>>,
    websocket: OnceLock<Result<RuleTls, String>>,
    carrier: Carrier,
}

impl Connector {
    /// Files are read now, where there are some; without files and a proxy this costs next to nothing.
    pub(crate) fn new(parts: &ConnectorParts<'_>) -> Result<Self, BrokerError> {
        let rule = parts.rule;
        // The rule's certificate is for its servers; a proxy is shown none.
        let tls = || RuleTls::open(Arc::clone(&parts.roots), &rule.ca, None, &[]);
        let connector = Self {
            roots: Arc::clone(&parts.roots),
            ca: rule.ca.clone(),
            client: rule.client.clone(),
            http: OnceLock::new(),
            websocket: OnceLock::new(),
            carrier: Carrier::of(rule, parts.ways, parts.resolver, tls)?,
        };
        if !rule.ca.is_empty() || rule.client.is_some() {
            let _ = connector.http.set(Ok(connector.tls(HTTP)?));
        }
        Ok(connector)
    }

    /// Connects to `destination`, to whichever of its addresses answers first.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        destination: Destination<'_>,
        speaks: Speaks,
    ) -> Result<Connected, ConnectFailure> {
        if let Carrier::Proxy(proxy) = &self.carrier
            && proxy.forwards(target)
        {
            return Ok(Connected {
                stream: GuestStream::Left(proxy.reach().await?),
                address: None,
                form: Form::Absolute(proxy.authorization()),
            });
        }
        let (wire, address) = self.carrier.open(destination).await?;
        let stream = if target.scheme.is_secure() {
            let connector = self.tls_for(speaks).await?;
            let name = match &target.host {
                Host::Address(address) => ServerName::from(*address),
                Host::Name(name) => ServerName::try_from(name.clone())
                    .map_err(|_| ConnectFailure::Tls("the name is not one for TLS".to_owned()))?,
            };
            let stream = connector.connect(name, wire).await;
            let stream = stream.map_err(|error| ConnectFailure::Tls(tls_error(&error)))?;
            GuestStream::Right(Box::new(stream))
        } else {
            GuestStream::Left(wire)
        };
        Ok(Connected {
            stream,
            address,
            form: Form::Origin,
        })
    }

    async fn tls_for(&self, speaks: Speaks) -> Result<TlsConnector, ConnectFailure> {
        let opened = match speaks {
            Speaks::Http => self.http.get_or_init(|| self.tls_or_text(HTTP)),
            Speaks::WebSocket => self.websocket.get_or_init(|| self.tls_or_text(WEBSOCKET)),
        };
        match opened {
            Ok(tls) => Ok(tls.connector().await),
            Err(why) => Err(ConnectFailure::Tls(why.clone())),
        }
    }

    fn tls_or_text(&self, protocols: &[&[u8]]) -> Result<RuleTls, String> {
        // The error names a file.
        self.tls(protocols).map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "TLS of a rule cannot be set up");
            "the certificates of the rule cannot be used".to_owned()
        })
    }

    fn tls(&self, protocols: &[&[u8]]) -> Result<RuleTls, BrokerError> {
        RuleTls::open(
            Arc::clone(&self.roots),
            &self.ca,
            self.client.as_ref(),
            protocols,
        )
    }
}
