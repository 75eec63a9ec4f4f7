//! Opens connections of one instance, under policy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use stockade_http::Host;
use stockade_limits::RateLimiter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::datagrams::{DatagramSocket, Datagrams, Pace};
use super::policy::{Protocol, Secure, SocketPolicy, SocketRule, TlsUse};
use super::stream::{SocketStream, Transport, Watched};
use crate::audit::{Action, Audit, Reason, Refusal};
use crate::budget::Quota;
use crate::carrier::Carrier;
use crate::connect::{self, BrokerError, ConnectFailure, Destination, tls_error};
use crate::error::EgressError;
use crate::in_flight::{Begun, InFlight};
use crate::policy::{Admitted, Denied, EgressLimits, names};
use crate::resolve::Resolver;
use crate::rule_tls::RuleTls;
use crate::via::Ways;

/// Datagrams of this time may go at once.
const DATAGRAMS_AT_ONCE: Duration = Duration::from_secs(1);

/// Where a guest wants to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketTarget {
    /// A name or an address, as the guest wrote it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// A connection, or datagrams: each is its length in two bytes, the higher one first, and its data.
    pub protocol: Protocol,
    /// Whether it has TLS.
    pub secure: Secure,
    /// The name that the server must prove, where it is not `host`.
    pub server_name: Option<String>,
}

/// One instance's connections: its rules and what is open.
pub struct Sockets {
    instance: Arc<str>,
    policy: SocketPolicy,
    limits: EgressLimits,
    /// How the connections of each rule are made, in the order of the rules.
    openers: Vec<Opener>,
    audit: Arc<dyn Audit>,
    quota: Arc<Quota>,
    resolver: Arc<Resolver>,
    open: Arc<Semaphore>,
    pace: Pace,
}

/// How the connections of a rule are made.
struct Opener {
    tls: Option<RuleTls>,
    carrier: Carrier,
}

impl Opener {
    /// Trusts Mozilla's roots and those of the rule. The certificate is for servers; a proxy is shown none.
    fn new(rule: &SocketRule, ways: &Ways, resolver: &Arc<Resolver>) -> Result<Self, BrokerError> {
        let roots = Arc::new(connect::roots(&[])?);
        let tls = |client| RuleTls::open(Arc::clone(&roots), &rule.ca, client, &[]);
        let is_used = rule.tls != TlsUse::Off;
        Ok(Self {
            tls: is_used.then(|| tls(rule.client.as_ref())).transpose()?,
            carrier: Carrier::of(rule, ways, resolver, || tls(None))?,
        })
    }
}

/// What [`Sockets`] are made of besides their policy.
pub(crate) struct SocketParts {
    pub(crate) instance: Arc<str>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Quota,
    pub(crate) resolver: Resolver,
}

/// The bytes of a connection: plain on the left, TLS on the right.
pub type ConnectionStream = Either<SocketStream, Box<TlsStream<SocketStream>>>;

/// An open connection.
pub struct Connection {
    /// Its bytes. Dropping it closes the connection.
    pub stream: ConnectionStream,
    /// How TLS starts, where it may.
    pub start_tls: Option<TlsStart>,
    /// When its time is over.
    pub deadline: Deadline,
}

/// When the time of a connection is over.
#[derive(Clone)]
pub struct Deadline {
    watched: Arc<Watched>,
    idle: Duration,
    life: Duration,
}

impl Deadline {
    /// Completes when the connection has been idle for too long, or has lived for as long as it may.
    pub async fn over(self) -> EgressError {
        self.watched.over(self.idle, self.life).await
    }
}

/// Starts TLS in a connection that is open.
pub struct TlsStart {
    sockets: Arc<Sockets>,
    /// The index of the rule that allowed the connection.
    rule: usize,
    connector: TlsConnector,
    host: Host,
    target: String,
    deadline: Deadline,
    limit: Duration,
}

impl TlsStart {
    /// Starts TLS in `stream`, between two bytes of it. `name` is what the server must prove, where it is not the host
    /// that the guest connected to: one that the rule of the connection names, too.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn start<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
        name: Option<String>,
    ) -> Result<(TlsStream<S>, Deadline), EgressError> {
        let in_flight = &self.deadline.watched.in_flight;
        let fails = |failure: &ConnectFailure| {
            in_flight.fails(EgressError::Tls {
                target: self.target.clone(),
                why: failure.to_string(),
            })
        };
        let unfit = || {
            fails(&ConnectFailure::Tls(
                "the name is not one for TLS".to_owned(),
            ))
        };
        let name = name.map(|name| Host::parse(&name)).transpose();
        let host = name.map_err(|_| unfit())?.unwrap_or(self.host.clone());
        let rule = &self.sockets.policy.rules[self.rule];
        // The server may be a front of many, which goes by this name.
        if host != self.host && !names(&rule.hosts, &rule.addresses, &host) {
            return Err(in_flight.refuse(Reason::HostNotAllowed));
        }
        let name = server_name(host).ok_or_else(unfit)?;
        self.deadline.watched.tls_started();
        let shaken = tokio::time::timeout(self.limit, self.connector.connect(name, stream)).await;
        match shaken {
            Ok(Ok(stream)) => Ok((stream, self.deadline.clone())),
            Ok(Err(error)) => Err(fails(&ConnectFailure::Tls(tls_error(&error)))),
            Err(_) => Err(in_flight.timed_out("the TLS handshake", self.limit)),
        }
    }
}

/// The name that a server must prove, where `host` can be one.
fn server_name(host: Host) -> Option<ServerName<'static>> {
    match host {
        Host::Address(address) => Some(ServerName::from(address)),
        Host::Name(name) => ServerName::try_from(name).ok(),
    }
}

impl Sockets {
    pub(crate) fn new(policy: SocketPolicy, parts: SocketParts) -> Result<Self, BrokerError> {
        let resolver = Arc::new(parts.resolver);
        let opener = |rule| Opener::new(rule, &policy.ways, &resolver);
        let openers = policy.rules.iter().map(opener);
        let openers = openers.collect::<Result<_, _>>()?;
        let limits = policy.limits.as_egress();
        Ok(Self {
            instance: parts.instance,
            openers,
            audit: parts.audit,
            quota: Arc::new(parts.quota),
            resolver,
            open: Arc::new(Semaphore::new(
                limits.concurrent.min(Semaphore::MAX_PERMITS),
            )),
            pace: policy.limits.datagrams_per_second.map(|per| {
                let limiter = RateLimiter::new(per.into(), DATAGRAMS_AT_ONCE);
                Arc::new(Mutex::new(limiter))
            }),
            limits,
            policy,
        })
    }

    /// Opens a connection, under policy. The future may be dropped at any time.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn connect(self: Arc<Self>, wanted: SocketTarget) -> Result<Connection, EgressError> {
        let started = Instant::now();
        // Count the attempt, read the target, and hold it against the rules.
        let host = Host::parse(&wanted.host);
        let shown = host.as_ref().map_or_else(
            |_| "an invalid host".to_owned(),
            |host| show(wanted.protocol, host, wanted.port),
        );
        let counted = self.quota.call();
        counted.map_err(|reason| self.refuse(&shown, None, reason))?;
        let host = host.map_err(|error| EgressError::Invalid {
            what: "the host",
            why: error.to_string(),
        })?;
        let admitted = (self.policy).admit(&host, wanted.port, wanted.protocol, wanted.secure);
        let admitted = admitted.map_err(|denied| self.deny(&shown, denied))?;
        // Take a place.
        let place = self.open.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limits.concurrent;
            self.refuse(&shown, admitted.first_rule(), Reason::Concurrency { limit })
        })?;
        let paid = self.quota.request();
        paid.map_err(|reason| self.refuse(&shown, admitted.first_rule(), reason))?;
        // Resolve, check every address, and connect to one of exactly these.
        let deadline = started + self.limits.connect_timeout;
        let open = self.open(&admitted, &host, &wanted, &shown);
        let (rule, transport) = tokio::time::timeout_at(deadline, open)
            .await
            .unwrap_or_else(|_| Err(self.too_late(&shown, "connecting")))?;
        // Count its bytes, and its time.
        let in_flight = InFlight::new(Begun {
            instance: Arc::clone(&self.instance),
            audit: Arc::clone(&self.audit),
            quota: Arc::clone(&self.quota),
            action: Action::Socket,
            target: shown.clone(),
            rule: Arc::clone(&rule.name),
            started,
            place,
        });
        let is_tcp = wanted.protocol == Protocol::Tcp;
        let must_start = rule.tls == TlsUse::Required && wanted.secure == Secure::StartTls;
        let watched = Watched::new(in_flight, is_tcp && must_start);
        let stream = SocketStream::new(transport, Arc::clone(&watched));
        let over = Deadline {
            watched,
            idle: self.limits.idle_timeout,
            life: self.limits.request_timeout,
        };
        // Start TLS, now or when the guest says so.
        let start = match self.opener(rule).filter(|_| is_tcp) {
            Some((rule, Opener { tls: Some(tls), .. })) => Some((rule, tls.connector().await)),
            _ => None,
        };
        let limit = self.limits.connect_timeout;
        let start = start.map(|(rule, connector)| TlsStart {
            sockets: Arc::clone(&self),
            rule,
            connector,
            host,
            target: shown.clone(),
            deadline: over.clone(),
            limit: deadline.saturating_duration_since(Instant::now()),
        });
        Ok(match (wanted.secure, start) {
            (Secure::On, Some(start)) => {
                let (stream, deadline) = start.start(stream, wanted.server_name).await?;
                Connection {
                    stream: ConnectionStream::Right(Box::new(stream)),
                    start_tls: None,
                    deadline,
                }
            }
            (secure, start) => Connection {
                stream: ConnectionStream::Left(stream),
                start_tls: start
                    .filter(|_| secure == Secure::StartTls)
                    .map(|start| TlsStart { limit, ..start }),
                deadline: over,
            },
        })
    }

    /// Opens the transport of a connection that was admitted; gives the rule that allows it, too.
    async fn open<'p>(
        &self,
        admitted: &Admitted<'p, SocketRule>,
        host: &Host,
        wanted: &SocketTarget,
        shown: &str,
    ) -> Result<(&'p SocketRule, Transport), EgressError> {
        let (rule, addresses) = self.checked_addresses(admitted, host, shown).await?;
        let destination = match &addresses {
            Some(addresses) => Destination::Addresses(addresses, wanted.port),
            None => Destination::Host(host, wanted.port),
        };
        let carrier = self
            .opener(rule)
            .map_or(&Carrier::Nothing, |(_, opener)| &opener.carrier);
        let opened = match wanted.protocol {
            Protocol::Tcp => {
                let opened = carrier.open(destination).await;
                opened.map(|(wire, _)| Transport::Left(wire))
            }
            Protocol::Udp => udp(carrier, destination)
                .await
                .map(|socket| Transport::Right(Datagrams::new(socket, self.pace.clone())))
                .map_err(|error| ConnectFailure::Tcp(error.kind())),
        };
        let transport = opened.map_err(|failure| EgressError::Connect {
            target: shown.to_owned(),
            why: failure.to_string(),
        })?;
        Ok((rule, transport))
    }

    /// The index of a rule, and how its connections are made.
    fn opener(&self, rule: &SocketRule) -> Option<(usize, &Opener)> {
        let at = self
            .policy
            .rules
            .iter()
            .position(|other| std::ptr::eq(other, rule))?;
        Some((at, self.openers.get(at)?))
    }

    /// The rule that allows a connection, and all addresses of the host; `None` where the rule's proxy resolves it.
    async fn checked_addresses<'a>(
        &self,
        admitted: &Admitted<'a, SocketRule>,
        host: &Host,
        shown: &str,
    ) -> Result<(&'a SocketRule, Option<Vec<IpAddr>>), EgressError> {
        if let Some(rule) = admitted.unresolved(host) {
            return Ok((rule, None));
        }
        let resolved = match admitted.via() {
            Some(via) => via.addresses(host).await,
            None => self.resolver.addresses(host).await,
        };
        let addresses = resolved.map_err(|failure| EgressError::Resolve {
            target: shown.to_owned(),
            why: failure.to_string(),
        })?;
        let rule = admitted.check(&addresses);
        let rule = rule.map_err(|denied| self.deny(shown, denied))?;
        Ok((rule, Some(addresses)))
    }

    fn refuse(&self, shown: &str, rule: Option<Arc<str>>, reason: Reason) -> EgressError {
        self.deny(
            shown,
            Denied {
                rule,
                reason,
                address: None,
            },
        )
    }

    fn deny(&self, shown: &str, denied: Denied) -> EgressError {
        let refusal = Refusal {
            instance: Arc::clone(&self.instance),
            action: Action::Socket,
            target: shown.to_owned(),
            rule: denied.rule,
            reason: denied.reason,
            address: denied.address,
        };
        self.audit.refused(&refusal);
        EgressError::Refused(Box::new(refusal))
    }

    fn too_late(&self, shown: &str, what: &'static str) -> EgressError {
        EgressError::TimedOut {
            target: shown.to_owned(),
            what,
            limit: self.limits.connect_timeout,
        }
    }
}

/// A target as messages and the audit name it.
fn show(protocol: Protocol, host: &Host, port: u16) -> String {
    let scheme = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{scheme}://{host}:{port}")
}

/// A socket for datagrams to the first of `addresses`, which takes none of anyone else.
async fn udp(carrier: &Carrier, destination: Destination<'_>) -> io::Result<DatagramSocket> {
    let (addresses, port) = match (carrier, destination) {
        (Carrier::System, Destination::Addresses(addresses, port)) => (addresses, port),
        (Carrier::Tunnel(via), Destination::Addresses(addresses, port)) => {
            let (socket, to) = via.datagrams(addresses, port)?;
            return Ok(DatagramSocket::Tunnel(socket, to));
        }
        // Datagrams go through no proxy.
        _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    let address = addresses.first().copied();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((address, port)).await?;
    Ok(DatagramSocket::System(socket))
}
