//! WireGuard without privileges.
//!
//! | module | |
//! |---|---|
//! | [`TunnelConfig`] | a file of `wg-quick`, as far as a tunnel without an interface can follow it |
//! | [`uapi`] | the peers of an interface that another program or the kernel runs |
//! | [`Tunnel`] | connections and datagrams through a tunnel: boringtun encrypts, smoltcp is the network stack |
//!
//! Invariants:
//! 1. No private key and no preshared key is in an error, in `Debug` or in a log line.
//! 2. A tunnel costs a bounded amount, whatever its peers send: packets that no key authenticates are dropped before
//!    anything is stored for them, and connections, their buffers and all queues have limits.
//! 3. A packet from a peer is accepted only from addresses in that peer's `AllowedIPs`, and a packet for an address in
//!    no peer's `AllowedIPs` is not sent.
//! 4. One task works for a tunnel. Locks are held without waiting, for a bounded number of packets.
//!
//! Deliberately absent: who may use a tunnel, and names of hosts within it. The broker decides about both.

mod config;
mod datagrams;
mod key;
mod peers;
mod shared;
mod stack;
mod stream;
mod tunnel;
pub mod uapi;

pub use config::{ConfigError, Endpoint, EndpointHost, Parsed, PeerConfig, TunnelConfig, parse};
pub use datagrams::TunnelDatagrams;
pub use key::{Key, KeyError};
pub use peers::PeerStatus;
pub use shared::Resolve;
pub use stack::TunnelLimits;
pub use stream::TunnelStream;
pub use tunnel::Tunnel;

/// Reads any bytes as a file of `wg-quick`, as an interface's answer, and as datagrams to a tunnel, for the fuzzer.
pub fn parse_wireguard(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse(text);
        let _ = uapi::read(text);
    }
    peers::parse_datagrams(bytes);
}
