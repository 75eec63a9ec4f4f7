//! The network stack of a tunnel: smoltcp between connections and two queues of packets.
//!
//! Invariants:
//! 1. There are at most [`TunnelLimits::connections`] open connections and sockets for datagrams, and as many
//!    connections that their users have left and that still say so to the other end.
//! 2. A queue has a fixed length. A packet that has no place is not made.
//! 3. A connection that its user leaves is over for the other end: with the end of what was written, or with a reset
//!    where something that was received was not read.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet,
};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{AnySocket, Socket, tcp, udp};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::config::{MOST_ADDRESSES, TunnelConfig};

/// Packets that are made before others get their turn.
const MOST_SENT: usize = 128;
/// Without an answer to what was sent, a connection is over.
const SILENCE: Duration = Duration::from_secs(60);
/// For a connection that its user has left to end as it should.
const FAREWELL: Duration = Duration::from_secs(10);
/// For the reset after that to be sent.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Ports of connections of ours (RFC 6335, 6).
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// Datagrams and their bytes that wait in a socket, each way.
const DATAGRAMS: usize = 64;
const DATAGRAM_BYTES: usize = 64 << 10;

/// Bounds of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Connections and sockets for datagrams at the same time.
    pub connections: usize,
    /// Bytes that one connection may have received or sent without its user or the other end having taken them, each.
    pub buffer: usize,
    /// Handshakes a second that are answered without proof of the sender's address.
    pub handshakes: u32,
}

/// A tunnel's network stack.
pub(crate) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    queues: Queues,
    addresses: Vec<IpAddr>,
    limits: TunnelLimits,
    began: Instant,
    port: u16,
    open: usize,
    leaving: VecDeque<Leaving>,
    /// The tunnel is over.
    pub(crate) is_closed: bool,
}

/// A connection that its user has left.
struct Leaving {
    handle: SocketHandle,
    until: Instant,
    is_reset: bool,
}

impl Stack {
    pub(crate) fn new(config: &TunnelConfig, limits: TunnelLimits, seed: u64) -> Self {
        let mut queues = Queues {
            received: VecDeque::new(),
            made: VecDeque::new(),
            mtu: usize::from(config.mtu),
        };
        let mut settings = Config::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let began = Instant::now();
        let start = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(settings, &mut queues, start);
        interface.update_ip_addrs(|list| {
            // Without a network of its own: every other address is behind a peer.
            for &address in config.addresses.iter().take(MOST_ADDRESSES) {
                let length = if address.is_ipv4() { 32 } else { 128 };
                let _ = list.push(IpCidr::new(address.into(), length));
            }
        });
        // On a medium of packets the router is only what makes an address reachable.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(Ipv4Addr::new(192, 0, 2, 1));
        let _ = routes.add_default_ipv6_route(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        let width = u64::from(PORTS.end() - PORTS.start()) + 1;
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            queues,
            addresses: config.addresses.clone(),
            limits,
            began,
            // Another port than after the last start, so that no old connection is met.
            port: PORTS.start() + u16::try_from(seed % width).unwrap_or(0),
            open: 0,
            leaving: VecDeque::new(),
            is_closed: false,
        }
    }

    fn now(&self) -> smoltcp::time::Instant {
        let micros = self.began.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Begins a connection. It is established when its state says so.
    pub(crate) fn connect(&mut self, remote: SocketAddr) -> io::Result<SocketHandle> {
        let local = self.room(remote.ip())?;
        let port = self.free_port()?;
        let buffer = || tcp::SocketBuffer::new(vec![0; self.limits.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_timeout(Some(SILENCE.into()));
        // A small request must not wait for the answer to the one before.
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        let began = socket.connect(
            self.interface.context(),
            (remote.ip(), remote.port()),
            (local, port),
        );
        began.map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        self.open += 1;
        Ok(self.sockets.add(socket))
    }

    /// A socket for datagrams from and to addresses of the kind of `remote`.
    pub(crate) fn datagrams(&mut self, remote: IpAddr) -> io::Result<SocketHandle> {
        let local = self.room(remote)?;
        let port = self.free_port()?;
        let buffer = || {
            let meta = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
            udp::PacketBuffer::new(meta, vec![0; DATAGRAM_BYTES])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        let bound = socket.bind((local, port));
        bound.map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        self.open += 1;
        Ok(self.sockets.add(socket))
    }

    /// The address that speaks with `remote`, where there is a place for one more connection.
    fn room(&self, remote: IpAddr) -> io::Result<IpAddr> {
        if self.is_closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.open >= self.limits.connections {
            let limit = self.limits.connections;
            return Err(io::Error::other(format!(
                "the tunnel has {limit} connections, which is its limit"
            )));
        }
        let same = |address: &&IpAddr| address.is_ipv4() == remote.is_ipv4();
        let local = self.addresses.iter().find(same).copied();
        local.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn free_port(&mut self) -> io::Result<u16> {
        let is_used = |port: u16| {
            self.sockets.iter().any(|(_, socket)| match socket {
                Socket::Tcp(socket) => socket.local_endpoint().is_some_and(|at| at.port == port),
                Socket::Udp(socket) => socket.endpoint().port == port,
            })
        };
        // More than there can be sockets.
        for _ in 0..=2 * self.limits.connections {
            let port = self.port;
            self.port = if port == *PORTS.end() {
                *PORTS.start()
            } else {
                port + 1
            };
            if !is_used(port) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    pub(crate) fn socket<T: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.sockets.get_mut(handle)
    }

    /// The user of a connection leaves it.
    pub(crate) fn leave(&mut self, handle: SocketHandle) {
        self.open -= 1;
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(handle);
        let is_reset = socket.recv_queue() > 0 || self.is_closed;
        if is_reset {
            socket.abort();
        } else {
            socket.close();
        }
        if self.leaving.len() >= self.limits.connections
            && let Some(oldest) = self.leaving.pop_front()
        {
            self.sockets.remove(oldest.handle);
        }
        let time = if is_reset { LAST_WORD } else { FAREWELL };
        self.leaving.push_back(Leaving {
            handle,
            until: Instant::now() + time,
            is_reset,
        });
    }

    /// The user of a socket for datagrams leaves it.
    pub(crate) fn leave_datagrams(&mut self, handle: SocketHandle) {
        self.open -= 1;
        self.sockets.remove(handle);
    }

    /// Takes packets that were received, gives those that are to be sent, and says when there is more to do.
    pub(crate) fn turn(
        &mut self,
        received: &mut VecDeque<Vec<u8>>,
        made: &mut VecDeque<Vec<u8>>,
    ) -> Option<Duration> {
        let now = self.now();
        std::mem::swap(&mut self.queues.received, received);
        self.interface.poll_maintenance(now);
        while self
            .interface
            .poll_ingress_single(now, &mut self.queues, &mut self.sockets)
            != PollIngressSingleResult::None
        {}
        while self.queues.made.len() < MOST_SENT
            && self
                .interface
                .poll_egress(now, &mut self.queues, &mut self.sockets)
                == PollResult::SocketStateChanged
        {}
        self.reap();
        std::mem::swap(&mut self.queues.made, made);
        let next = self.interface.poll_delay(now, &self.sockets);
        next.map(Into::into)
    }

    /// Removes connections that have ended after their users left them.
    fn reap(&mut self) {
        let now = Instant::now();
        let sockets = &mut self.sockets;
        self.leaving.retain_mut(|leaving| {
            let socket: &mut tcp::Socket<'_> = sockets.get_mut(leaving.handle);
            let is_over = match socket.state() {
                // A reset is sent as long as the other end is known.
                tcp::State::Closed => socket.remote_endpoint().is_none(),
                tcp::State::TimeWait => true,
                _ => false,
            };
            if !is_over && now >= leaving.until && !leaving.is_reset {
                socket.abort();
                leaving.is_reset = true;
                leaving.until = now + LAST_WORD;
                return true;
            }
            if is_over || now >= leaving.until {
                sockets.remove(leaving.handle);
                return false;
            }
            true
        });
    }

    /// The tunnel is over: connections end, and their users learn of it.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        for (_, socket) in self.sockets.iter_mut() {
            match socket {
                Socket::Tcp(socket) => socket.abort(),
                Socket::Udp(socket) => socket.close(),
            }
        }
    }

    /// Another start of a tunnel that was closed.
    pub(crate) fn reopen(&mut self) {
        self.is_closed = false;
    }
}

/// Packets on their way. For smoltcp they are a network card.
struct Queues {
    received: VecDeque<Vec<u8>>,
    made: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);

struct Made<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Made<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Made<'_>)> {
        // An answer has a place: there are no more of them than packets in one turn.
        let packet = self.received.pop_front()?;
        Some((Received(packet), Made(&mut self.made)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Made<'_>> {
        (self.made.len() < MOST_SENT).then_some(Made(&mut self.made))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Made<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
