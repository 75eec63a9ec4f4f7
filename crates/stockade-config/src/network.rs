//! Listeners and what the gateway holds clients to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stockade_http::{Host, HostPattern, Scheme};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::instance::Marked;
use crate::keys::{
    ADDRESS, INSTANCE_NAME, Key, Kind, NEW, boolean, either, integer, size, text, time,
};
use crate::section::{Parse, Record, Words, section, words};
use crate::sockets::Protocol;
use crate::tls::Tls;
use crate::tree::Message;
use crate::url::UrlPattern;

section! {
    /// The addresses at which clients connect.
    pub struct Listener "listener" {
        /// Address and port. `0.0.0.0` is every IPv4 address of the machine, `[::]` every IPv6 address; port 0 lets the
        /// system choose.
        pub address: SocketAddr = text(ADDRESS).required().like(&["127.0.0.1:8080", "0.0.0.0:443"]),
        /// `true` uses the section `tls` of the file, `false` is plain HTTP, and a
        /// section applies to this listener only.
        pub tls: Option<Arc<Tls>> = either(&[Kind::Bool, Tls::KIND])
            .derived("`true` where the file has a section `tls`") => own_tls,
        /// Whether connections of trusted proxies begin with a PROXY header, version 1 or 2.
        pub proxy_protocol: ProxyProtocol = Key::of(ProxyProtocol::KIND).default("off"),
        /// Enables HTTP/2 in addition to HTTP/1.1.
        pub http2: bool = boolean().default("true"),
        /// The instance whose `connect` handler gets the connections of this listener as they are: bytes, after TLS
        /// and the PROXY header, and not HTTP.
        pub connect: Option<String> = text(INSTANCE_NAME).like(&["mail"]),
        /// With `connect`: what the listener receives. `udp` is for datagrams, without TLS and PROXY headers: those of one
        /// client address and port are a connection.
        pub protocol: Protocol = Key::of(Protocol::KIND).default("tcp"),
        /// With `connect`: concurrent connections. Further ones are closed, and their datagrams dropped.
        pub connections: usize = integer(1, 1_000_000).default("1000"),
        /// With `connect`: time without a byte in either direction after which a connection is closed. With
        /// `protocol: udp`: time without a datagram of the client.
        pub idle_timeout: Duration = time(10, 31_536_000_000)
            .derived("`10m`, or `1m` with `protocol: udp`") => idle_timeout,
        /// With `connect`: time after which a connection is closed.
        pub lifetime: Duration = time(10, 31_536_000_000).default("1day"),
        /// With `protocol: udp`: datagrams per second of one client address (IPv6: one /64). Further ones are dropped.
        pub datagrams: u32 = integer(1, 10_000_000).default("1000"),
        /// With `protocol: udp`: bytes that the instance may send to a client for each byte that it received from there,
        /// both with 28 bytes of headers for each datagram. Datagrams above that are dropped: who sends may have forged
        /// the address, and its owner must not receive a multiple.
        pub amplification: u32 = integer(1, 10_000).default("3"),
    }
}

words! {
    /// Whether connections begin with a PROXY header, version 1 or 2. It is taken from trusted proxies only.
    pub enum ProxyProtocol {
        /// Never.
        Off = "off",
        /// Maybe.
        Optional = "optional",
        /// Always; other connections are closed.
        Required = "required",
    }
}

section! {
    /// Limits for each client, regardless of the site.
    pub struct GatewayLimits "gateway_limits" {
        /// Concurrent connections.
        pub connections: usize = integer(1, 1_000_000).default("10000"),
        /// Connections from one client address (IPv6: one /64). Trusted proxies are
        /// exempt.
        pub connections_per_address: usize = integer(1, 1_000_000).default("256"),
        /// The number of requests after which a connection is closed.
        pub requests_per_connection: u64 = integer(1, 1_000_000_000).default("100000"),
        /// TLS handshakes that wait to be computed. Further ones are rejected.
        pub handshakes: usize = integer(1, 100_000).default("256"),
        /// Time until TLS and the PROXY header are complete.
        pub handshake_timeout: Duration = time(100, 600_000).default("10s"),
        /// Time from a request's first byte to the end of its head.
        pub header_timeout: Duration = time(100, 600_000).default("10s"),
        /// Time between two parts of a request's body.
        pub body_timeout: Duration = time(100, 3_600_000).default("20s"),
        /// The minimum rate of a request's body per second, averaged over
        /// `body_timeout`. `0b` means no minimum.
        pub body_rate: u64 = size(0, 1 << 30).default("500b"),
        /// How long a client may take to accept the next part of a response.
        pub write_timeout: Duration = time(100, 3_600_000).default("30s"),
        /// Time until a connection without a request is closed.
        pub idle_timeout: Duration = time(100, 3_600_000).default("60s"),
        /// Size of a request's head. A larger head gets 431.
        pub header_bytes: usize = size(8 << 10, 1 << 20).default("32kb"),
        /// Header fields of a request. A request with more gets 431.
        pub headers: usize = integer(16, 1024).default("100"),
        /// Size of a request's target. A larger target gets 414.
        pub uri_bytes: usize = size(256, 64 << 10).default("8kb"),
        /// Size of a request's body, also if the instance's own `limits.max_body` is
        /// larger. A larger body gets 413.
        pub max_body: u64 = size(0, 1 << 40).default("100mb"),
        /// Concurrent streams of one HTTP/2 connection.
        pub http2_streams: u32 = integer(1, 10_000).default("100"),
        /// Streams of one HTTP/2 connection that were reset and are not yet removed. A
        /// connection with more is closed.
        pub http2_resets: usize = integer(1, 10_000).default("20"),
        /// Frames per second of one HTTP/2 connection that contain neither a request
        /// nor data, with bursts of four times the number. A connection that exceeds it
        /// is closed.
        pub http2_control_frames: u32 = integer(10, 1_000_000).default("500"),
        /// Counters for `rate_limits`, of 40 bytes each, of all instances together. Clients that find none free share
        /// one with others.
        pub rate_counters: usize = integer(1024, 16_777_216).default("262144"),
        /// The bits of an IPv6 address that `rate_limits` count as one client.
        pub ipv6_prefix: u8 = integer(16, 128).default("64"),
        /// The database that keeps what quotas of a day or a month have counted. It is created with mode 0600 if it
        /// does not exist, with three more files next to it.
        pub quotas: PathBuf = text(NEW).default("./quotas.db"),
        /// Concurrent WebSockets.
        pub websockets: usize = integer(0, 1_000_000).default("5000"),
        /// Size of one message of a WebSocket. A larger message closes the socket with
        /// 1009.
        pub websocket_message: usize = size(125, 64 << 20).default("1mb"),
        /// Messages per second of one WebSocket. Further messages are read later.
        pub websocket_rate: u32 = integer(1, 1_000_000).default("1000"),
        /// How long a WebSocket may be silent before it is pinged.
        pub websocket_ping: Duration = time(100, 3_600_000).default("30s"),
        /// How long the client may take to answer a ping, or to accept a message,
        /// before the socket is closed.
        pub websocket_pong: Duration = time(100, 3_600_000).default("20s"),
    }
}

/// Reads `listeners`, `shared` being the file's own TLS. Without the key there is one listener.
pub(crate) fn listeners(top: &Fields<'_>, shared: Option<&Arc<Tls>>) -> Vec<Listener> {
    if !top.has("listeners") {
        let port = if shared.is_some() { 8443 } else { 8080 };
        return vec![Listener {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            tls: shared.cloned(),
            proxy_protocol: ProxyProtocol::Off,
            http2: true,
            connect: None,
            protocol: Protocol::Tcp,
            connections: 1000,
            idle_timeout: Duration::from_secs(600),
            lifetime: Duration::from_secs(24 * 3600),
            datagrams: 1000,
            amplification: 3,
        }];
    }
    let items = top.list("listeners");
    if items.is_empty()
        && top
            .find("listeners")
            .is_some_and(|found| found.node.list().is_some())
    {
        let what = "without a listener nobody can connect".to_owned();
        top.refuse("listeners", what);
    }
    let mut out: Vec<Listener> = Vec::new();
    for item in items {
        let Some(fields) = Fields::new(top.reader(), Listener::SECTION, &item) else {
            continue;
        };
        let mut listener = Listener::read(&fields);
        share_tls(&fields, &mut listener, shared);
        check_listener(top, &fields, &listener, &out);
        out.push(listener);
    }
    out
}

/// How long a connection may be idle: less for datagrams, of which no end is received.
fn idle_timeout(fields: &Fields<'_>) -> Duration {
    let given: Option<Duration> = fields.get("idle_timeout");
    given.unwrap_or(match fields.get::<Protocol>("protocol") {
        Protocol::Tcp => Duration::from_secs(600),
        Protocol::Udp => Duration::from_secs(60),
    })
}

/// The section `tls` of a listener's own.
fn own_tls(fields: &Fields<'_>) -> Option<Arc<Tls>> {
    let found = fields.find("tls")?;
    if found.node.map().is_none() && found.node.flag().is_none() {
        fields
            .reader()
            .wrong(&found, &Kind::Either(&[Kind::Bool, Tls::KIND]));
    }
    found.node.map()?;
    crate::tls::read(&fields.own_section("tls")).map(Arc::new)
}

/// Gives a listener without a `tls` of its own that of the file, unless it says `false`.
fn share_tls(fields: &Fields<'_>, listener: &mut Listener, shared: Option<&Arc<Tls>>) {
    let written = fields.find("tls");
    let flag = written.as_ref().and_then(|found| found.node.flag());
    if flag == Some(true) && shared.is_none() {
        let what = "the file has no section `tls` to take, or it is switched off";
        let allowed = "a section `tls` with certificates, at the top of the file or here";
        fields.refuse("tls", Message::allowed(what, allowed));
    }
    if flag == Some(true) || (written.is_none() && listener.protocol == Protocol::Tcp) {
        listener.tls = shared.cloned();
    }
}

/// Reports what is wrong with a listener, `others` being those before it.
fn check_listener(top: &Fields<'_>, fields: &Fields<'_>, listener: &Listener, others: &[Listener]) {
    let address = listener.address;
    if listener.proxy_protocol != ProxyProtocol::Off && !top.has("trusted_proxies") {
        let what = "nobody's PROXY header would be taken: no proxy is trusted";
        let allowed = "trusted_proxies at the top of the file, with the proxies' networks";
        fields.refuse("proxy_protocol", Message::allowed(what, allowed));
    }
    let mut others = others.iter();
    let of_protocol =
        others.find(|other| other.protocol == listener.protocol && clash(other.address, address));
    if let Some(other) = of_protocol {
        let what = format!("{address} is taken by the listener on {}", other.address);
        fields.refuse("address", what);
    }
    check_datagrams(fields, listener);
    let of_connect = ["protocol", "connections", "idle_timeout", "lifetime"];
    for key in of_connect.iter().filter(|_| listener.connect.is_none()) {
        if fields.has(key) {
            let what = "the key is for connections that an instance gets as they are";
            fields.refuse(
                key,
                Message::allowed(what, "connect: the name of an instance"),
            );
        }
    }
    if listener.connect.is_some() && fields.has("http2") {
        let what = "a listener with `connect` speaks no HTTP";
        fields.refuse("http2", Message::allowed(what, "no such key"));
    }
    if listener.tls.is_none()
        && listener.connect.is_none()
        && !address.ip().is_loopback()
        && !top.has("trusted_proxies")
    {
        let what = "plain HTTP to the network: everyone on the way can read and change it";
        let allowed = "`tls`, or a proxy in front of it that is in trusted_proxies";
        fields.warn("address", Message::allowed(what, allowed));
    }
}

/// Reports keys of TCP at a listener for datagrams, and those of datagrams elsewhere.
fn check_datagrams(fields: &Fields<'_>, listener: &Listener) {
    if listener.protocol == Protocol::Tcp {
        for key in ["datagrams", "amplification"] {
            if fields.has(key) {
                let what = "the key is for datagrams";
                fields.refuse(key, Message::allowed(what, "protocol: udp, with connect"));
            }
        }
        return;
    }
    let allowed = "no such key, or `protocol: tcp`";
    if listener.tls.is_some() {
        fields.refuse("tls", Message::allowed("datagrams have no TLS", allowed));
    }
    if listener.proxy_protocol != ProxyProtocol::Off {
        let what = "datagrams have no PROXY header";
        fields.refuse("proxy_protocol", Message::allowed(what, allowed));
    }
}

/// Every exact host name that some URLs are reached by over TLS.
pub(crate) fn tls_names<'a>(urls: impl Iterator<Item = &'a UrlPattern>) -> Vec<String> {
    let name = |url: &UrlPattern| match &url.host {
        HostPattern::Exact(Host::Name(name)) if url.scheme != Some(Scheme::Http) => {
            Some(name.clone())
        }
        _ => None,
    };
    let names: BTreeSet<_> = urls.filter_map(name).collect();
    names.into_iter().collect()
}

/// Reads `https_redirect`: a switch, or a port.
pub(crate) fn https_redirect(top: &Fields<'_>, listeners: &[Listener]) -> Option<u16> {
    let port = listeners
        .iter()
        .find(|listener| listener.tls.is_some())
        .map(|listener| listener.address.port());
    let Some(found) = top.find("https_redirect") else {
        return port.filter(|_| listeners.iter().any(|listener| listener.tls.is_none()));
    };
    match found.node.flag() {
        Some(false) => None,
        Some(true) if port.is_none() => {
            let what = "there is no listener with TLS to send anyone to";
            let allowed = "a listener with TLS, or the port at which clients find one";
            top.refuse("https_redirect", Message::allowed(what, allowed));
            None
        }
        Some(true) => port,
        None => top.value("https_redirect", u16::parse),
    }
}

/// Whether the system would refuse one of two addresses of listeners, of which those of IPv6 take no IPv4.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip();
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (same || a.is_ipv4() == b.is_ipv4() && any)
}

/// Whether the system would refuse a listener together with that for metrics, which takes IPv4 too on `[::]`
/// (`net.ipv6.bindv6only`, ip(7)).
fn clash_with_metrics(listener: SocketAddr, metrics: SocketAddr) -> bool {
    let all = metrics.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let same_port = listener.port() == metrics.port() && listener.port() != 0;
    clash(listener, metrics) || (all && same_port)
}

/// Reports listeners whose connections go to an instance that there is not, or that has no code.
pub(crate) fn check_connect(top: &Fields<'_>, listeners: &[Listener], marked: &[Marked]) {
    for (item, listener) in top.list("listeners").iter().zip(listeners) {
        let Some(name) = &listener.connect else {
            continue;
        };
        let has_code = |one: &&Marked| one.instance.name == *name && one.instance.code.is_some();
        if marked.iter().any(|one| has_code(&one)) {
            continue;
        }
        let what = format!("there is no instance {:?} with code", shown(name));
        let allowed = "the name of an instance whose default export has `connect`";
        let message = Message::allowed(what, allowed);
        top.reader()
            .source
            .error(item.node.span, &item.path, message);
    }
    let speak_http = listeners.iter().any(|listener| listener.connect.is_none());
    let urls = marked.iter().flat_map(|one| &one.urls);
    for (at, path) in urls.filter(|_| !speak_http && !listeners.is_empty()) {
        let what = "nobody can reach this URL: every listener gives its connections to an instance";
        let allowed = "a listener without `connect`";
        top.reader()
            .source
            .error(*at, path, Message::allowed(what, allowed));
    }
}

/// Reports an address of metrics that a listener has taken.
pub(crate) fn check_metrics(top: &Fields<'_>, metrics: SocketAddr, listeners: &[Listener]) {
    let taken = |listener: &&Listener| {
        listener.protocol == Protocol::Tcp && clash_with_metrics(listener.address, metrics)
    };
    if let Some(other) = listeners.iter().find(taken) {
        let what = format!("{metrics} is taken by the listener on {}", other.address);
        top.section("metrics").refuse("listen", what);
    }
}

/// Reports an address of the admin API that another listener has taken.
pub(crate) fn check_admin(
    top: &Fields<'_>,
    admin: SocketAddr,
    listeners: &[Listener],
    metrics: Option<SocketAddr>,
) {
    let taken = |listener: &&Listener| clash(listener.address, admin);
    let what = if let Some(other) = listeners.iter().find(taken) {
        format!("{admin} is taken by the listener on {}", other.address)
    } else if metrics.is_some_and(|metrics| clash_with_metrics(admin, metrics)) {
        format!("{admin} is taken by the listener for metrics")
    } else {
        return;
    };
    top.section("admin").refuse("listen", what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clash_knows_unspecified_addresses() {
        let clash = |a: &str, b: &str| clash(a.parse().unwrap(), b.parse().unwrap());
        assert!(clash("127.0.0.1:80", "127.0.0.1:80"));
        assert!(clash("0.0.0.0:80", "127.0.0.1:80"));
        assert!(clash("[::]:80", "[::1]:80"));
        assert!(!clash("[::]:80", "127.0.0.1:80"));
        assert!(!clash("[::]:80", "0.0.0.0:80"));
        let metrics = |a: &str, b: &str| clash_with_metrics(a.parse().unwrap(), b.parse().unwrap());
        assert!(metrics("0.0.0.0:80", "[::]:80"));
        assert!(!metrics("[::]:80", "0.0.0.0:80"));
        assert!(!metrics("0.0.0.0:81", "[::]:80"));
        assert!(!clash("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!clash("[::1]:80", "127.0.0.1:80"));
    }
}
