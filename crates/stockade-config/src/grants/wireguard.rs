//! `wireguard`: the peers of an interface that the kernel or another program runs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{Format, Key, Kind, NETWORK, integer, list, text};
use crate::section::{Words, section, words};
use crate::tree::Message;
use crate::value::from_text;

call_limits! {
    "wireguard_limits",
    rate: "20",
    concurrent: "8",
    queue: "64",
    timeout: "10s",
    max_request: "16kb",
    max_result: "4mb",
    handles: None,
}

/// The name of a network interface.
const INTERFACE: Format = Format {
    what: "the name of an interface: at most 15 letters, digits and -_=+.",
    pattern: Some(r"^[A-Za-z0-9_=+.-]{1,15}$"),
    expect: None,
};

/// Where clients reach the interface.
const ENDPOINT: Format = Format {
    what: "HOST:PORT, with an IPv6 address in brackets",
    pattern: Some(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}$"),
    expect: None,
};

/// An address.
const ADDRESS: Format = Format {
    what: "an IP address, as 10.8.0.1 or fd00::1",
    pattern: Some(r"^[0-9A-Fa-f.:]{2,45}$"),
    expect: None,
};

section! {
    /// The peers of a WireGuard interface that exists, of the Linux kernel or of a program
    /// such as wireguard-go, as far as this grant made them: list, add, remove, and the
    /// files and QR codes of clients. Other peers and the interface itself cannot be
    /// changed.
    pub struct WireguardGrant "wireguard" {
        /// The interface: of the program that offers the socket
        /// `/var/run/wireguard/NAME.sock`, or else of the kernel.
        pub interface: String = text(INTERFACE).required().like(&["wg0"]),
        /// Peers that the grant may have made at the same time.
        pub peers: usize = integer(1, 10_000).default("100"),
        /// The networks that addresses of peers are taken from. No two peers have one.
        pub allowed_ips: Vec<IpNet> = list(&Kind::Text(NETWORK))
            .required()
            .nonempty()
            .like(&["[10.8.0.0/24]"]) => allowed_ips,
        /// Addresses in them that no peer gets. The first and the last one of each network
        /// and the one after the first, which the interface usually has, are left out
        /// besides.
        pub reserved: Vec<IpAddr> = list(&Kind::Text(ADDRESS)).like(&["[10.8.0.53]"]),
        /// Who makes the keys of clients. With `guest`, a peer is added with a public key.
        /// With `host`, the host makes a pair, and the guest receives the private key in the
        /// client's file.
        pub keys: WireguardKeys = Key::of(WireguardKeys::KIND).default("guest"),
        /// Where clients reach the interface, for their files.
        pub endpoint: Option<String> = text(ENDPOINT).like(&["vpn.example:51820"]),
        /// What clients send through the tunnel, for their files.
        pub routes: Vec<IpNet> = list(&Kind::Text(NETWORK)).derived("`allowed_ips`").nonempty() => routes,
        /// The servers of names of clients, for their files.
        pub dns: Vec<IpAddr> = list(&Kind::Text(ADDRESS)).like(&["[10.8.0.1]"]),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for WireguardGrant {}

words! {
    /// Who makes the keys of clients.
    pub enum WireguardKeys {
        /// The guest, or its clients.
        Guest = "guest",
        /// The host.
        Host = "host",
    }
}

from_text! {
    IpAddr = address,
}

fn address(text: &str) -> Result<IpAddr, Message> {
    let wrong = |_| {
        let what = format!("{:?} is not an address", shown(text));
        Message::allowed(what, ADDRESS.what)
    };
    text.parse().map_err(wrong)
}

fn allowed_ips(grant: &Fields<'_>) -> Vec<IpNet> {
    if !grant.has("allowed_ips") {
        grant.missing("allowed_ips");
    }
    let nets: Vec<IpNet> = grant.get("allowed_ips");
    let overlap = nets.iter().enumerate().any(|(at, net)| {
        let mut later = nets.iter().skip(at + 1);
        later.any(|other| net.contains(other) || other.contains(net))
    });
    if overlap {
        let what = "two of the networks overlap";
        grant.refuse("allowed_ips", Message::allowed(what, "disjoint networks"));
    }
    nets
}

fn routes(grant: &Fields<'_>) -> Vec<IpNet> {
    if grant.has("routes") {
        grant.get("routes")
    } else {
        grant.get("allowed_ips")
    }
}
