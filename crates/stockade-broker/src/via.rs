//! Ways out through a WireGuard tunnel: names that are resolved within it, and connections.
//!
//! Invariant: a name that a rule sends through a tunnel is never asked of a resolver outside it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::name_server::GenericConnector;
use hickory_resolver::proto::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::proto::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use hickory_resolver::proto::udp::DnsUdpSocket;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::{Name, Resolver};
use parking_lot::Mutex;
use stockade_http::Host;
use stockade_wireguard::{
    PeerStatus, Resolve, Tunnel, TunnelConfig, TunnelDatagrams, TunnelLimits, TunnelStream,
};
use tokio::time::Instant;

use crate::network::DialError;
use crate::race::race_by;
use crate::resolve::{self, ResolveFailure, bounded, bounds};

/// The port of DNS servers.
const DNS: u16 = 53;

/// Tunnels of an instance, by the names that rules call them.
pub type Ways = HashMap<String, Arc<Via>>;

/// A tunnel as a way out, with a cache of names of its own.
pub struct Via {
    tunnel: Arc<Tunnel>,
    resolver: Option<Resolver<GenericConnector<Within>>>,
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({})", self.tunnel.id())
    }
}

impl Via {
    fn new(config: TunnelConfig, limits: TunnelLimits, resolve: Resolve) -> io::Result<Self> {
        let has = |is: fn(&IpAddr) -> bool| config.addresses.iter().any(is);
        let strategy = match (has(IpAddr::is_ipv4), has(IpAddr::is_ipv6)) {
            (true, true) => LookupIpStrategy::Ipv4AndIpv6,
            (false, true) => LookupIpStrategy::Ipv6Only,
            _ => LookupIpStrategy::Ipv4Only,
        };
        let mut servers = ResolverConfig::new();
        for &address in &config.dns {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let server = SocketAddr::new(address, DNS);
                servers.add_name_server(NameServerConfig::new(server, protocol));
            }
        }
        let tunnel = Arc::new(Tunnel::new(config, limits, resolve)?);
        let resolver = (!servers.name_servers().is_empty()).then(|| {
            let provider = GenericConnector::new(Within {
                tunnel: Arc::clone(&tunnel),
                handle: TokioHandle::default(),
            });
            let mut builder = Resolver::builder_with_config(servers, provider);
            let options: &mut ResolverOpts = builder.options_mut();
            bounds(options);
            options.ip_strategy = strategy;
            options.use_hosts_file = ResolveHosts::Never;
            builder.build()
        });
        Ok(Self { tunnel, resolver })
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &TunnelConfig {
        self.tunnel.config()
    }

    /// What is known of its peers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.tunnel.peers()
    }

    /// Whether an address is behind one of its peers.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.tunnel.reaches(address)
    }

    /// All addresses of a host, at least one, as the tunnel's own servers say.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, ResolveFailure> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let resolver = self.resolver.as_ref().ok_or(ResolveFailure::NoServer)?;
        let name = Name::from_ascii(format!("{name}.")).map_err(|_| ResolveFailure::None)?;
        let found = resolver.lookup_ip(name).await;
        let found = found.map_err(|error| resolve::failure(&error))?;
        bounded(found.iter())
    }

    /// Connects to a server that the operator named, by the names and the networks of the tunnel. All of it ends by the
    /// deadline.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TunnelStream, DialError> {
        let connecting = async {
            let host = Host::parse(host).map_err(|error| DialError::Host(error.to_string()))?;
            let addresses = self.addresses(&host).await;
            let addresses = addresses.map_err(|error| DialError::Resolve(error.to_string()))?;
            let connected = self.connect(&addresses, port).await;
            connected.map_err(|error| DialError::Connect(error.kind()))
        };
        let connected = tokio::time::timeout_at(deadline, connecting).await;
        let (stream, _) = connected.unwrap_or(Err(DialError::TimedOut))?;
        Ok(stream)
    }

    /// Connects to one of `addresses`, whichever answers first. Says which.
    pub(crate) async fn connect(
        &self,
        addresses: &[IpAddr],
        port: u16,
    ) -> io::Result<(TunnelStream, SocketAddr)> {
        race_by(addresses, port, |address| self.tunnel.connect(address)).await
    }

    /// A socket for datagrams to the first of `addresses`.
    pub(crate) fn datagrams(
        &self,
        addresses: &[IpAddr],
        port: u16,
    ) -> io::Result<(TunnelDatagrams, SocketAddr)> {
        let address = addresses.first().copied();
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = self.tunnel.datagrams(address)?;
        Ok((socket, SocketAddr::new(address, port)))
    }

    /// Whether a peer answers: a connection to its first DNS server, or to nobody in particular.
    ///
    /// # Errors
    /// No session came about in time.
    pub async fn answers(&self, within: Duration) -> Result<(), io::ErrorKind> {
        let config = self.tunnel.config();
        let net = config.peers.iter().flat_map(|peer| &peer.allowed_ips);
        let mut targets = config.dns.iter().copied().chain(net.map(|net| net.addr()));
        let target = targets.find(|target| {
            let has = |own: &IpAddr| own.is_ipv4() == target.is_ipv4();
            self.reaches(*target) && config.addresses.iter().any(has)
        });
        let target = target.ok_or(io::ErrorKind::AddrNotAvailable)?;
        // Its first packet needs a session, also that of a connection that fails.
        let connecting = self.tunnel.connect(SocketAddr::new(target, DNS));
        let mut connecting = std::pin::pin!(connecting);
        let has_session = || {
            let peers = self.tunnel.peers();
            peers.iter().any(|peer| peer.since_handshake.is_some())
        };
        let until = Instant::now() + within;
        let mut is_refused = false;
        loop {
            if has_session() {
                return Ok(());
            }
            let tick = tokio::time::sleep(Duration::from_millis(50));
            tokio::select! {
                connected = &mut connecting, if !is_refused => match connected {
                    Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => return Err(error.kind()),
                    _ => is_refused = true,
                },
                () = tick => {}
            }
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut);
            }
        }
    }
}

/// What a tunnel is made of besides its name.
type Made = (TunnelConfig, TunnelLimits);

/// An instance, and the name of a tunnel.
type Place = (Arc<str>, String);

/// A tunnel that somebody has, and what it was made of.
type Open = (Made, Weak<Via>);

/// The tunnels of all instances that are in use, each once.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: Mutex<HashMap<Place, Vec<Open>>>,
}

impl Tunnels {
    /// The tunnel of a name: the one that is in use where nothing changed, else a new one.
    pub(crate) fn open(
        &self,
        instance: &str,
        name: &str,
        made: Made,
        resolve: Resolve,
    ) -> io::Result<Arc<Via>> {
        let mut open = self.open.lock();
        open.retain(|_, list| {
            list.retain(|(_, via)| via.strong_count() > 0);
            !list.is_empty()
        });
        let list = open.entry((instance.into(), name.to_owned())).or_default();
        let same = list.iter().find(|(other, _)| *other == made);
        if let Some(via) = same.and_then(|(_, via)| via.upgrade()) {
            return Ok(via);
        }
        let via = Arc::new(Via::new(made.0.clone(), made.1, resolve)?);
        list.push((made, Arc::downgrade(&via)));
        Ok(via)
    }
}

/// What hickory asks servers through: sockets within a tunnel.
#[derive(Clone)]
struct Within {
    tunnel: Arc<Tunnel>,
    /// Has the tasks of all questions: its end would end them.
    handle: TokioHandle,
}

impl RuntimeProvider for Within {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Questions;
    type Tcp = AsyncIoTokioAsStd<TunnelStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let tunnel = Arc::clone(&self.tunnel);
        Box::pin(async move {
            let limit = timeout.unwrap_or(Duration::from_secs(5));
            let connected = tokio::time::timeout(limit, tunnel.connect(server)).await;
            let stream = connected.map_err(|_| io::ErrorKind::TimedOut)?;
            stream.map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(
        &self,
        _: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Questions>>>> {
        let socket = self.tunnel.datagrams(server.ip());
        Box::pin(async move { socket.map(Questions) })
    }
}

/// Questions to a DNS server, and its answers.
struct Questions(TunnelDatagrams);

impl DnsUdpSocket for Questions {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.0.poll_receive(cx, buf)
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let sent = self.0.poll_send(cx, buf, target);
        sent.map_ok(|()| buf.len())
    }
}
