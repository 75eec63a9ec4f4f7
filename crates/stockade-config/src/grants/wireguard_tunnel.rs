//! `wireguard_tunnel`: a tunnel that rules of `sockets` and `data_guard` can name.

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{integer, size};
use crate::secret::SecretRef;
use crate::section::section;

call_limits! {
    "wireguard_tunnel_limits",
    rate: "100",
    concurrent: "16",
    queue: "256",
    timeout: "5s",
    max_request: "1kb",
    max_result: "64kb",
    handles: None,
}

section! {
    /// A WireGuard tunnel, without privileges and without an interface of the system. Rules
    /// of `sockets` and `data_guard` lead through it with `via` and its name. All mirrors
    /// share it.
    pub struct WireguardTunnelGrant "wireguard_tunnel" {
        /// A file of `wg-quick`, which contains the private key: `[Interface]` with
        /// `PrivateKey`, `Address`, `DNS`, `MTU` and `ListenPort`, and `[Peer]`s with
        /// `PublicKey`, `PresharedKey`, `Endpoint`, `AllowedIPs` and
        /// `PersistentKeepalive`. Keys that would run commands are refused.
        pub config: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "config"),
        /// Concurrent connections through the tunnel, of all rules together.
        pub connections: usize = integer(1, 1024).default("64"),
        /// Bytes that one connection may have received, and as many that it may have
        /// sent, before they are taken.
        pub buffer: u64 = size(4 << 10, 4 << 20).default("128kb"),
        /// Handshakes per second that are answered without proof of the sender's address.
        pub handshakes: u32 = integer(1, 1000).default("50"),
        /// Bounds of the calls of `status()`.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for WireguardTunnelGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.config.iter_mut().collect()
    }
}
