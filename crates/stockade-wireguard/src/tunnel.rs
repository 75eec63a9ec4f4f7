//! A tunnel: the task that works for it, and connections through it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::TunnelConfig;
use crate::datagrams::TunnelDatagrams;
use crate::key::random;
use crate::peers::{Outgoing, PeerStatus, Peers};
use crate::shared::{Resolve, Shared};
use crate::stack::{Stack, TunnelLimits};
use crate::stream::TunnelStream;

/// Datagrams that are taken before others get their turn.
const BURST: usize = 64;
/// Bytes of the largest datagram that can be a message: a packet of the largest MTU and what encryption adds.
const DATAGRAM: usize = 9216;
/// How often timers of sessions are checked (boringtun's own device does it as often).
const TICK: Duration = Duration::from_millis(250);
/// Bytes that the system keeps for each direction of the outer socket, as far as it allows it.
const OUTER_BUFFER: usize = 1 << 20;

/// A tunnel. It starts with its first connection, and ends with this object.
pub struct Tunnel {
    shared: Arc<Shared>,
    id: u64,
    allowed: Vec<IpNet>,
}

impl Tunnel {
    /// A tunnel that has not started.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(config: TunnelConfig, limits: TunnelLimits, resolve: Resolve) -> io::Result<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let seed = u64::from_le_bytes(random()?);
        let allowed = config.peers.iter().flat_map(|peer| &peer.allowed_ips);
        Ok(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            allowed: allowed.copied().collect(),
            shared: Arc::new(Shared {
                stack: Mutex::new(Stack::new(&config, limits, seed)),
                config,
                wake: Notify::new(),
                limits,
                resolve,
                runs: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
                status: Mutex::default(),
            }),
        })
    }

    /// A number that no other tunnel of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &TunnelConfig {
        &self.shared.config
    }

    /// Whether an address is behind one of its peers and is the address of one host.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        let is_one = match address {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(_) => true,
        };
        let is_one = is_one && !address.is_unspecified() && !address.is_multicast();
        is_one && self.allowed.iter().any(|net| net.contains(&address))
    }

    /// Connects over TCP. The caller bounds the time.
    ///
    /// # Errors
    /// The address is not behind a peer, the tunnel has its most connections or no address of this kind, or the other
    /// end refuses.
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<TunnelStream> {
        self.start(remote.ip())?;
        TunnelStream::connect(Arc::clone(&self.shared), remote).await
    }

    /// A socket for datagrams to addresses of the kind of `remote`.
    ///
    /// # Errors
    /// As those of [`Self::connect`].
    pub fn datagrams(&self, remote: IpAddr) -> io::Result<TunnelDatagrams> {
        self.start(remote)?;
        TunnelDatagrams::bind(Arc::clone(&self.shared), remote)
    }

    /// What is known of the peers. Empty before the first connection.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.status.lock().clone()
    }

    fn start(&self, remote: IpAddr) -> io::Result<()> {
        if !self.reaches(remote) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if self.shared.runs.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let ending = Ending(Arc::clone(&self.shared));
        let socket = outer_socket(self.shared.config.listen_port)?;
        self.shared.stack.lock().reopen();
        tokio::spawn(async move { work(&ending.0, &socket).await });
        Ok(())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

/// Ends the connections when the task ends, for whatever reason.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.stack.lock().close();
        self.0.runs.store(false, Ordering::Release);
    }
}

/// The socket that datagrams of all peers go through: for IPv6 and IPv4 where the machine has both.
fn outer_socket(port: u16) -> io::Result<UdpSocket> {
    let open = |domain, address: IpAddr| {
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        let _ = socket.set_recv_buffer_size(OUTER_BUFFER);
        let _ = socket.set_send_buffer_size(OUTER_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        UdpSocket::from_std(socket.into())
    };
    open(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
        .or_else(|_| open(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()))
}

/// An address as a socket for both kinds writes it.
fn outer(socket_is_v6: bool, address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) if socket_is_v6 => {
            SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
        }
        _ => address,
    }
}

/// Works for a tunnel until it is over.
async fn work(shared: &Shared, socket: &UdpSocket) {
    let is_v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
    let mut peers = Peers::new(&shared.config, shared.limits.handshakes);
    let mut resolving = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; DATAGRAM];
    let (mut received, mut made) = (VecDeque::new(), VecDeque::new());
    let mut out = Outgoing::new();
    loop {
        // Packets to and from the connections.
        let is_over = shared.is_over.load(Ordering::Acquire);
        let next = {
            let mut stack = shared.stack.lock();
            if is_over {
                stack.close();
            }
            stack.turn(&mut received, &mut made)
        };
        for packet in made.drain(..) {
            peers.send(&packet, &mut out);
        }
        // Messages to the peers. One that the system does not take is lost, as any may be.
        for (to, data) in out.drain(..) {
            let _ = socket.send_to(&data, outer(is_v6, to)).await;
        }
        if is_over {
            return;
        }
        for (index, name) in peers.unresolved() {
            let found = (shared.resolve)(name);
            resolving.spawn(async move { (index, found.await) });
        }
        // Whatever comes next.
        let until = next.map(|delay| Instant::now() + delay);
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = socket.readable() => {
                for _ in 0..BURST {
                    match socket.try_recv_from(&mut buffer) {
                        Ok((length, from)) => {
                            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                            peers.receive(from, &buffer[..length], &mut out, &mut received);
                        }
                        // An error is of a datagram that was sent: an answer that its port is closed.
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
                // Packets are counted before their connections have them.
                *shared.status.lock() = peers.status();
            }
            () = shared.wake.notified() => {}
            () = timer => {}
            _ = ticks.tick() => {
                peers.tick(&mut out);
                *shared.status.lock() = peers.status();
            }
            Some(done) = resolving.join_next() => {
                if let Ok((index, found)) = done {
                    peers.resolved(index, found, &mut out);
                }
            }
        }
    }
}
