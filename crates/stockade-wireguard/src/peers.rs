//! The peers of a tunnel: which one a packet is for, and whether one may have sent it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;

use crate::config::{Endpoint, EndpointHost, PeerConfig, TunnelConfig};
use crate::key::Key;

/// Bytes of a message that answers another one, at least (148 for a handshake).
const SMALLEST: usize = 148;
/// What encryption adds to a packet.
const OVERHEAD: usize = 32;
/// Messages that one packet leads to, at most: packets that waited for a handshake (256 in boringtun).
const MOST_ANSWERS: usize = 300;
/// A name that was not resolved is tried again after this time.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// Bits of a session's number that are not the peer's (boringtun: `index << 8`).
const PEER_BITS: u32 = 8;
/// Type of a message that only asks for proof of an address.
const COOKIE_REPLY: u8 = 3;

/// Datagrams for the outside, and where they go.
pub(crate) type Outgoing = Vec<(SocketAddr, Vec<u8>)>;

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its key.
    pub public_key: Key,
    /// The age of the session; `None` where there is none.
    pub since_handshake: Option<Duration>,
    /// Bytes of packets for it.
    pub sent: u64,
    /// Bytes of packets from it.
    pub received: u64,
}

/// The peers of one tunnel.
pub(crate) struct Peers {
    list: Vec<Peer>,
    /// The longest prefix first.
    routes: Vec<(IpNet, usize)>,
    limiter: Arc<RateLimiter>,
    private: StaticSecret,
    public: PublicKey,
    buffer: Vec<u8>,
}

struct Peer {
    key: Key,
    tunn: Tunn,
    endpoint: Option<Endpoint>,
    keepalive: bool,
    address: Option<SocketAddr>,
    /// Its name should be resolved.
    is_wanted: bool,
    resolved_at: Option<Instant>,
    is_resolving: bool,
}

impl Peers {
    /// `handshakes` a second are answered without proof of the sender's address.
    pub(crate) fn new(config: &TunnelConfig, handshakes: u32) -> Self {
        let private = StaticSecret::from(*config.private_key.bytes());
        let public = PublicKey::from(&private);
        // A first message of a handshake is counted twice where there are several peers.
        let limiter = Arc::new(RateLimiter::new(&public, u64::from(handshakes)));
        let mut routes = Vec::new();
        let mut list = Vec::new();
        for (index, peer) in (0u32..).zip(&config.peers) {
            routes.extend(peer.allowed_ips.iter().map(|net| (*net, list.len())));
            let address = peer.endpoint.as_ref().and_then(|at| match at.host {
                EndpointHost::Address(address) => Some(SocketAddr::new(address, at.port)),
                EndpointHost::Name(_) => None,
            });
            list.push(Peer {
                key: peer.public_key.clone(),
                tunn: Tunn::new(
                    private.clone(),
                    PublicKey::from(*peer.public_key.bytes()),
                    peer.preshared_key.as_ref().map(|key| *key.bytes()),
                    peer.keepalive,
                    index,
                    Some(Arc::clone(&limiter)),
                ),
                endpoint: peer.endpoint.clone(),
                keepalive: peer.keepalive.is_some(),
                address,
                is_wanted: false,
                resolved_at: None,
                is_resolving: false,
            });
        }
        routes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self {
            list,
            routes,
            limiter,
            private,
            public,
            buffer: vec![0; SMALLEST],
        }
    }

    fn route(&self, address: IpAddr) -> Option<usize> {
        let found = self.routes.iter().find(|(net, _)| net.contains(&address));
        found.map(|(_, peer)| *peer)
    }

    fn room(&mut self, length: usize) {
        let needed = (length + OVERHEAD).max(SMALLEST);
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
    }

    /// Encrypts a packet for the peer that has its address.
    pub(crate) fn send(&mut self, packet: &[u8], out: &mut Outgoing) {
        let index = Tunn::dst_address(packet).and_then(|address| self.route(address));
        self.room(packet.len());
        let Some(peer) = index.and_then(|index| self.list.get_mut(index)) else {
            return;
        };
        if let TunnResult::WriteToNetwork(data) = peer.tunn.encapsulate(packet, &mut self.buffer) {
            let data = data.to_vec();
            peer.push(data, out);
        }
    }

    /// Takes a datagram from the outside. What it contained is added to `packets`.
    pub(crate) fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Outgoing,
        packets: &mut VecDeque<Vec<u8>>,
    ) {
        let Some(index) = self.sender(from, datagram, out) else {
            return;
        };
        self.room(datagram.len());
        let mut datagram = datagram;
        for _ in 0..MOST_ANSWERS {
            let Some(peer) = self.list.get_mut(index) else {
                return;
            };
            let result = peer
                .tunn
                .decapsulate(Some(from.ip()), datagram, &mut self.buffer);
            let (packet, sender) = match result {
                TunnResult::WriteToNetwork(data) => {
                    let data = data.to_vec();
                    if data.first() == Some(&COOKIE_REPLY) {
                        // Nothing proves who sent the message: the answer goes back to where it came from.
                        out.push((from, data));
                        return;
                    }
                    if !datagram.is_empty() {
                        peer.address = Some(from);
                    }
                    peer.push(data, out);
                    // What waited for the handshake.
                    datagram = &[];
                    continue;
                }
                TunnResult::WriteToTunnelV4(packet, sender) => (packet, IpAddr::V4(sender)),
                TunnResult::WriteToTunnelV6(packet, sender) => (packet, IpAddr::V6(sender)),
                TunnResult::Done => {
                    if is_data(datagram) {
                        peer.address = Some(from);
                    }
                    return;
                }
                TunnResult::Err(_) => return,
            };
            let packet = packet.to_vec();
            peer.address = Some(from);
            if self.route(sender) == Some(index) {
                packets.push_back(packet);
            }
            return;
        }
    }

    /// The peer that a message says it is from. Whether it is true, decryption decides.
    fn sender(&mut self, from: SocketAddr, datagram: &[u8], out: &mut Outgoing) -> Option<usize> {
        let of_session = |number: u32| usize::try_from(number >> PEER_BITS).ok();
        let index = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::PacketData(packet) => of_session(packet.receiver_idx),
            Packet::HandshakeResponse(packet) => of_session(packet.receiver_idx),
            Packet::PacketCookieReply(packet) => of_session(packet.receiver_idx),
            Packet::HandshakeInit(_) if self.list.len() == 1 => Some(0),
            Packet::HandshakeInit(init) => {
                // The cheap check comes before the key exchange that shows who it is.
                let verified =
                    self.limiter
                        .verify_packet(Some(from.ip()), datagram, &mut self.buffer);
                match verified {
                    Ok(_) => {}
                    Err(TunnResult::WriteToNetwork(cookie)) => {
                        out.push((from, cookie.to_vec()));
                        return None;
                    }
                    Err(_) => return None,
                }
                let half = parse_handshake_anon(&self.private, &self.public, &init).ok()?;
                let is = |peer: &Peer| *peer.key.bytes() == half.peer_static_public;
                self.list.iter().position(is)
            }
        };
        index.filter(|&index| index < self.list.len())
    }

    /// Keeps sessions alive, renews them and begins handshakes again. Called a few times a second.
    pub(crate) fn tick(&mut self, out: &mut Outgoing) {
        self.limiter.reset_count();
        for peer in &mut self.list {
            match peer.tunn.update_timers(&mut self.buffer) {
                TunnResult::WriteToNetwork(data) => {
                    let data = data.to_vec();
                    peer.push(data, out);
                }
                TunnResult::Err(WireGuardError::ConnectionExpired) => {
                    // Perhaps it has moved.
                    peer.is_wanted = true;
                    if peer.keepalive {
                        peer.greet(&mut self.buffer, false, out);
                    }
                }
                _ => {}
            }
        }
    }

    /// Names that are to be resolved now.
    pub(crate) fn unresolved(&mut self) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        for (index, peer) in self.list.iter_mut().enumerate() {
            let waits = peer
                .resolved_at
                .is_some_and(|at| at.elapsed() < RESOLVE_AGAIN);
            if !peer.is_wanted || peer.is_resolving || waits {
                continue;
            }
            if let Some(Endpoint {
                host: EndpointHost::Name(name),
                ..
            }) = &peer.endpoint
            {
                (peer.is_resolving, peer.is_wanted) = (true, false);
                names.push((index, name.clone()));
            }
        }
        names
    }

    /// A name was resolved, or was not.
    pub(crate) fn resolved(&mut self, index: usize, found: Option<IpAddr>, out: &mut Outgoing) {
        let Some(peer) = self.list.get_mut(index) else {
            return;
        };
        (peer.is_resolving, peer.resolved_at) = (false, Some(Instant::now()));
        let Some(address) = found else {
            tracing::debug!("the endpoint of a WireGuard peer was not resolved");
            peer.is_wanted = true;
            return;
        };
        let port = peer.endpoint.as_ref().map_or(0, |endpoint| endpoint.port);
        peer.address = Some(SocketAddr::new(address, port));
        // The first message of a handshake was lost: there was no address for it.
        peer.greet(&mut self.buffer, true, out);
    }

    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        let status = |peer: &Peer| {
            let (handshake, sent, received, ..) = peer.tunn.stats();
            PeerStatus {
                public_key: peer.key.clone(),
                since_handshake: handshake,
                sent: sent as u64,
                received: received as u64,
            }
        };
        self.list.iter().map(status).collect()
    }
}

impl Peer {
    /// Sends a datagram to where the peer is.
    fn push(&mut self, data: Vec<u8>, out: &mut Outgoing) {
        match self.address {
            Some(address) => out.push((address, data)),
            None => self.is_wanted = true,
        }
    }

    /// Sends the first message of a handshake.
    fn greet(&mut self, buffer: &mut [u8], again: bool, out: &mut Outgoing) {
        let first = self.tunn.format_handshake_initiation(buffer, again);
        if let TunnResult::WriteToNetwork(data) = first {
            let data = data.to_vec();
            self.push(data, out);
        }
    }
}

/// Whether a message is one of data, which only the peer can have sent.
fn is_data(datagram: &[u8]) -> bool {
    datagram.first() == Some(&4)
}

/// Gives any bytes to a tunnel with two peers as datagrams of up to 255 bytes, each after its length.
pub(crate) fn parse_datagrams(bytes: &[u8]) {
    let peer = |byte| PeerConfig {
        public_key: Key::from_bytes([byte; 32]).public(),
        preshared_key: None,
        endpoint: None,
        allowed_ips: Vec::new(),
        keepalive: None,
    };
    let config = TunnelConfig {
        private_key: Key::from_bytes([1; 32]),
        addresses: Vec::new(),
        dns: Vec::new(),
        mtu: 1420,
        listen_port: 0,
        peers: vec![peer(2), peer(3)],
    };
    let mut peers = Peers::new(&config, 1);
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let (mut out, mut packets) = (Outgoing::new(), VecDeque::new());
    let mut rest = bytes;
    while let Some((length, data)) = rest.split_first() {
        let datagram;
        (datagram, rest) = data.split_at(data.len().min(usize::from(*length)));
        peers.receive(from, datagram, &mut out, &mut packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const A: &str = "192.0.2.1:1000";
    const B: &str = "192.0.2.2:2000";

    /// Two ends that know each other. The address of the second is known, that of the first is not.
    fn ends() -> (Peers, Peers) {
        let (one, two) = (Key::random().unwrap(), Key::random().unwrap());
        let file = |own: &Key, other: &Key, last: u8, rest: &str| {
            let text = format!(
                "[Interface]\nPrivateKey={}\nAddress=10.0.0.{last}\n[Peer]\nPublicKey={}\nAllowedIPs=10.0.0.{}/32\n{rest}",
                own.reveal(),
                other.public().reveal(),
                3 - last
            );
            Peers::new(&parse(&text).unwrap().config, 100)
        };
        let first = file(&one, &two, 1, &format!("Endpoint={B}"));
        (first, file(&two, &one, 2, ""))
    }

    /// A packet of IPv4 from one of the two ends to the other.
    fn packet(from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[3], packet[8], packet[9]) = (0x45, 28, 64, 17);
        packet[12..16].copy_from_slice(&[10, 0, 0, from]);
        packet[16..20].copy_from_slice(&[10, 0, 0, to]);
        packet
    }

    /// Carries messages to and fro until there are none, and returns the packets that arrived at each end.
    fn carry(one: &mut Peers, two: &mut Peers, mut out: Outgoing) -> [VecDeque<Vec<u8>>; 2] {
        let mut arrived = [VecDeque::new(), VecDeque::new()];
        while let Some((to, data)) = out.pop() {
            if to == B.parse().unwrap() {
                two.receive(A.parse().unwrap(), &data, &mut out, &mut arrived[1]);
            } else {
                one.receive(B.parse().unwrap(), &data, &mut out, &mut arrived[0]);
            }
        }
        arrived
    }

    #[test]
    fn packet_before_the_handshake_arrives_after_it() {
        let (mut one, mut two) = ends();
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        let [_, arrived] = carry(&mut one, &mut two, out);
        assert_eq!(arrived, [packet(1, 2)]);
    }

    #[test]
    fn message_that_comes_twice_counts_once() {
        let (mut one, mut two) = ends();
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        carry(&mut one, &mut two, out);
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        let (again, mut packets) = (out.clone(), VecDeque::new());
        // From another place, to where answers must not go then.
        for (_, data) in out.into_iter().chain(again) {
            two.receive(
                A.parse().unwrap(),
                &data,
                &mut Outgoing::new(),
                &mut packets,
            );
            let mut answers = Outgoing::new();
            two.receive(B.parse().unwrap(), &data, &mut answers, &mut packets);
            assert!(answers.is_empty());
        }
        assert_eq!(packets.len(), 1);
        let mut out = Outgoing::new();
        two.send(&packet(2, 1), &mut out);
        assert_eq!(out[0].0, A.parse().unwrap());
    }

    #[test]
    fn peer_that_moves_is_followed_and_one_that_only_claims_to_be_it_is_not() {
        let (mut one, mut two) = ends();
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        carry(&mut one, &mut two, out);
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        let (_, data) = out.pop().unwrap();
        let moved = "198.51.100.7:7".parse().unwrap();
        let mut forged = data.clone();
        *forged.last_mut().unwrap() ^= 1;
        let mut packets = VecDeque::new();
        two.receive(moved, &forged, &mut Outgoing::new(), &mut packets);
        two.send(&packet(2, 1), &mut out);
        assert_eq!(out.pop().unwrap().0, A.parse().unwrap());
        assert!(packets.is_empty());
        two.receive(moved, &data, &mut Outgoing::new(), &mut packets);
        two.send(&packet(2, 1), &mut out);
        assert_eq!(out.pop().unwrap().0, moved);
        assert_eq!(packets.len(), 1);
    }

    #[test]
    fn packets_of_others_pass_neither_way() {
        let (mut one, mut two) = ends();
        let mut out = Outgoing::new();
        one.send(&packet(1, 2), &mut out);
        carry(&mut one, &mut two, out);
        // The sender is not in the peer's AllowedIPs.
        let mut out = Outgoing::new();
        one.send(&packet(9, 2), &mut out);
        assert_eq!(out.len(), 1);
        assert!(carry(&mut one, &mut two, out)[1].is_empty());
        // The receiver is in no peer's AllowedIPs.
        let mut out = Outgoing::new();
        one.send(&packet(1, 9), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn names_are_resolved_when_they_are_needed_and_not_too_often() {
        let (own, other) = (Key::random().unwrap(), Key::random().unwrap());
        let text = format!(
            "[Interface]\nPrivateKey={}\nAddress=10.0.0.1\n[Peer]\nPublicKey={}\nAllowedIPs=10.0.0.0/24\nEndpoint=vpn.example:9",
            own.reveal(),
            other.public().reveal()
        );
        let mut peers = Peers::new(&parse(&text).unwrap().config, 100);
        let mut out = Outgoing::new();
        assert!(peers.unresolved().is_empty());
        peers.send(&packet(1, 2), &mut out);
        assert_eq!(peers.unresolved(), [(0, "vpn.example".to_owned())]);
        assert!(peers.unresolved().is_empty());
        peers.resolved(0, None, &mut out);
        peers.send(&packet(1, 2), &mut out);
        assert!(peers.unresolved().is_empty(), "too soon");
        peers.resolved(0, Some("192.0.2.9".parse().unwrap()), &mut out);
        assert_eq!(out[0].0, "192.0.2.9:9".parse().unwrap());
    }
}
