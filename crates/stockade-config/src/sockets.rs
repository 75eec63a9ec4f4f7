//! `sockets`: the servers that an instance may connect to over TCP.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use stockade_http::HostPattern;

use crate::fields::Fields;
use crate::guard::PortRange;
use crate::keys::{
    FILE, HOST, Key, Kind, NETWORK, PORTS, TEXT, VARIABLE, boolean, integer, list, size, text, time,
};
use crate::proxy::{self, PROXY, ProxyUrl};
use crate::secret::SecretRef;
use crate::section::{Words, section, words};
use crate::tree::Message;

section! {
    /// The servers that an instance may connect to with `connect` of `cloudflare:sockets`, and so with `node:net` and
    /// `node:tls`. A connection that no entry of `connect` allows is refused, and without entries all are. Rules of
    /// `data_guard` allow none. Private, loopback, link-local and other non-public addresses are refused even then,
    /// unless `allow_private` lists them.
    pub struct Sockets "sockets" {
        /// Rules: which hosts, at which ports, with or without TLS.
        pub connect: Vec<ConnectRule> = list(&ConnectRule::KIND),
        /// Non-public networks that may be reached if an entry allows the host.
        pub allow_private: Vec<IpNet> = list(&Kind::Text(NETWORK)).like(&["[\"10.0.0.0/8\", \"127.0.0.1\"]"]),
        /// Networks that are never reached, such as the machine's own public addresses.
        pub refuse: Vec<IpNet> = list(&Kind::Text(NETWORK)),
        /// Concurrent connections of all mirrors together. Further ones are refused.
        pub concurrent: usize = integer(1, 100_000).default("64"),
        /// Attempts to connect per second, those included that are refused. Further ones are refused.
        pub rate: Option<u32> = integer(1, 1_000_000).default("100"),
        /// Datagrams that are sent over UDP per second, by all mirrors together. Further ones wait.
        pub datagrams: Option<u32> = integer(1, 1_000_000).default("1000"),
        /// Bytes per second, both directions together. Further bytes wait.
        pub bandwidth: Option<u64> = size(1 << 10, 1 << 40),
        /// Time until a connection is established, including name resolution and TLS.
        pub connect_timeout: Duration = time(10, 600_000).default("10s"),
        /// Time without a byte in either direction after which a connection is closed.
        pub idle_timeout: Duration = time(10, 31_536_000_000).default("10m"),
        /// Time after which a connection is closed.
        pub lifetime: Duration = time(10, 31_536_000_000).default("1day"),
        /// Connections per `total_period`. Further ones are refused.
        pub total_connections: Option<u64> = integer(0, 1 << 50),
        /// Bytes per `total_period`, both directions together. Connections are closed when they are spent.
        pub total_bytes: Option<u64> = size(0, 1 << 50),
        /// The period after which the totals start again.
        pub total_period: Option<Duration> = time(1000, 31_536_000_000)
            .derived("as long as Stockade runs")
            .like(&["1day"]),
    }
}

section! {
    /// One rule: hosts or networks, at these ports.
    pub struct ConnectRule "connect_rule" {
        /// A name for the log.
        pub name: String = text(TEXT).derived("its place in the list") => name,
        /// Host names. `*.` in front matches all names below it, and `"*"` is every public host.
        pub hosts: Vec<HostPattern> = list(&Kind::Text(HOST)).nonempty().like(&["[db.example.com]"]),
        /// Networks that match addresses. With `hosts`, all addresses of these hosts must be in these networks.
        pub addresses: Vec<IpNet> = list(&Kind::Text(NETWORK)).nonempty(),
        /// Ports or ranges. Port 25 is allowed only where it stands by itself.
        pub ports: Vec<PortRange> = list(&Kind::Text(PORTS)).required().nonempty().like(&["[5432, 6000-6100]"]),
        /// `udp` is for datagrams, which the broker sends without TLS.
        pub protocol: Protocol = Key::of(Protocol::KIND).default("tcp"),
        /// With `required`, a connection has TLS from its first byte (`secureTransport: "on"`), or starts it before the
        /// guest has sent 4 KiB (`"starttls"`). With `allowed`, it has TLS as the guest wants it. With `off`, Stockade
        /// adds none: a guest can then only speak TLS by code of its own.
        pub tls: TlsUse = Key::of(TlsUse::KIND).default("required"),
        /// Root certificates (PEM) to trust in addition to the public ones.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// A certificate (PEM) to show to servers that ask for one. The guest does not see it.
        pub client_certificate: Option<PathBuf> = text(FILE),
        /// The private key (PEM) of `client_certificate`.
        pub client_key: Option<PathBuf> = text(FILE),
        /// The name of a grant of the kind `wireguard_tunnel`: connections go through this
        /// tunnel, to addresses in the `AllowedIPs` of its peers. Names are then looked up by
        /// its DNS servers and by no others. Of several rules that match, the first decides.
        pub via: Option<String> = text(VARIABLE).like(&["OFFICE"]),
        /// A proxy for the connections of this rule, over HTTP, over HTTP with TLS, or SOCKS version 5. Stockade resolves
        /// names and checks their addresses, and gives the proxy the address. A rule with `via` cannot have one.
        pub proxy: Option<ProxyUrl> = text(PROXY).like(&["socks5://proxy.internal:1080"]),
        /// `user:password` for the proxy. The guest does not receive it.
        pub proxy_credentials: Option<SecretRef> = SecretRef::key() => proxy::credentials,
        /// Has the proxy resolve names, for networks in which only the proxy can. Their addresses are then checked by
        /// nobody: `allow_private` and `refuse` apply to addresses in `connect` only.
        pub proxy_resolves: bool = boolean().default("false"),
    }
}

impl Sockets {
    /// What is read from files and variables.
    pub(crate) fn secrets(&mut self) -> impl Iterator<Item = &mut SecretRef> {
        let rules = self.connect.iter_mut();
        rules.filter_map(|rule| rule.proxy_credentials.as_mut())
    }
}

words! {
    /// What a rule is for.
    pub enum Protocol {
        /// Connections.
        Tcp = "tcp",
        /// Datagrams.
        Udp = "udp",
    }
}

words! {
    /// Whether connections have TLS.
    pub enum TlsUse {
        /// They must.
        Required = "required",
        /// As the guest wants it.
        Allowed = "allowed",
        /// Never by Stockade.
        Off = "off",
    }
}

fn name(rule: &Fields<'_>) -> String {
    // A rule that allows nothing is reported where its other keys are read first.
    let refuse = |what: &str, allowed: &str| {
        let at = rule.at;
        rule.reader()
            .source
            .error(at, &rule.path, Message::allowed(what, allowed));
    };
    if !rule.has("hosts") && !rule.has("addresses") {
        refuse(
            "the rule does not say what may be reached",
            "`hosts`, `addresses` or both",
        );
    }
    if !rule.has("ports") {
        refuse(
            "the rule does not say at which ports",
            "ports: [5432], or ranges such as 6000-6100",
        );
    }
    let of_tls = ["tls", "ca", "client_certificate", "client_key"];
    if rule.get::<Protocol>("protocol") == Protocol::Udp && of_tls.iter().any(|key| rule.has(key)) {
        refuse(
            "datagrams have no TLS",
            "neither `tls` nor certificates, or `protocol: tcp`",
        );
    }
    if rule.get::<Protocol>("protocol") == Protocol::Udp && rule.has("proxy") {
        refuse(
            "datagrams go through no proxy",
            "no `proxy`, or `protocol: tcp`",
        );
    }
    proxy::check(rule);
    let name: Option<String> = rule.get("name");
    name.unwrap_or_else(|| rule.path.clone())
}
