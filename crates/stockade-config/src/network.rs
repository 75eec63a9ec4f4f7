//! Listeners and what the gateway holds clients to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use stockade_http::{Host, HostPattern, Scheme};

use crate::fields::Fields;
use crate::instance::Marked;
use crate::keys::{ADDRESS, Key, Kind, NETWORK, Section};
use crate::mistake::shown;
use crate::tls::{self, AcmeChallenge, Tls};
use crate::tree::Remark;
use crate::url::UrlPattern;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// `None` is plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Whether connections begin with who the client is.
    pub proxy_protocol: ProxyProtocol,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
}

/// Whether connections begin with a PROXY header, version 1 or 2. Taken from trusted proxies only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Maybe.
    Optional,
    /// Always; other connections are closed.
    Required,
}

/// What the gateway holds every client to.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayLimits {
    /// Connections open at the same time.
    pub connections: usize,
    /// Of one address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// After so many requests a connection is closed.
    pub requests_per_connection: u64,
    /// TLS handshakes that wait for their turn to compute.
    pub handshakes: usize,
    /// Until TLS and the PROXY header are through.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// The least bytes a second of a request's body, averaged over `body_timeout`; 0 is no bound.
    pub body_rate: u64,
    /// How long a client may take to accept the next piece of a response.
    pub write_timeout: Duration,
    /// Without any request.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Bytes of a request's target.
    pub uri_bytes: usize,
    /// Bytes of a request's body, whatever an instance allows.
    pub max_body: u64,
    /// Streams of one HTTP/2 connection at the same time.
    pub http2_streams: u32,
    /// Streams of one HTTP/2 connection that the client reset and that are still being cleared
    /// away; above it the connection is closed (CVE-2023-44487).
    pub http2_resets: usize,
    /// Frames a second of one HTTP/2 connection that carry neither request nor data; four times as many
    /// in a burst.
    pub http2_control_frames: u32,
    /// Bytes of one message of a WebSocket.
    pub websocket_message: usize,
    /// Messages a second of one WebSocket; more are read later.
    pub websocket_rate: u32,
    /// How long a WebSocket may be silent before it is asked whether it is still there.
    pub websocket_ping: Duration,
    /// How long it may take to answer, or to take a message.
    pub websocket_pong: Duration,
    /// WebSockets at the same time.
    pub websockets: usize,
}

const LISTENER: Section = Section {
    name: "listener",
    doc: "Where clients connect.",
    keys: &[
        Key::needed(
            "address",
            Kind::Text(ADDRESS),
            "Address and port. `0.0.0.0` is every IPv4 address of the machine, `[::]` every IPv6 address; port 0 lets the system choose.",
        )
        .like(&["127.0.0.1:8080", "0.0.0.0:443"]),
        Key::derived(
            "tls",
            Kind::Either(&[Kind::Flag, Kind::Section(&tls::TLS)]),
            "`true` where the file has a section `tls`",
            "`true` takes the section `tls` of the file, `false` is plain HTTP; or a section of its own.",
        ),
        Key::with(
            "proxy_protocol",
            Kind::Words(&["off", "optional", "required"]),
            "off",
            "Whether connections of trusted proxies begin with a PROXY header, version 1 or 2.",
        ),
        Key::with("http2", Kind::Flag, "true", "Speaks HTTP/2 beside HTTP/1.1."),
    ],
};

/// `listeners`.
pub(crate) const LISTENERS: Kind = Kind::List(&Kind::Section(&LISTENER));

/// `limits` at the top of the file.
pub(crate) const LIMITS: Section = Section {
    name: "gateway_limits",
    doc: "What every client is held to, whatever it asks for.",
    keys: &[
        Key::with(
            "connections",
            Kind::Whole(1, 1_000_000),
            "10000",
            "Connections open at the same time.",
        ),
        Key::with(
            "connections_per_address",
            Kind::Whole(1, 1_000_000),
            "256",
            "Connections of one client address; of IPv6, one /64. Trusted proxies are not held to it.",
        ),
        Key::with(
            "requests_per_connection",
            Kind::Whole(1, 1_000_000_000),
            "100000",
            "Requests after which a connection is closed.",
        ),
        Key::with(
            "handshakes",
            Kind::Whole(1, 100_000),
            "256",
            "TLS handshakes that wait for their turn to compute; more are refused.",
        ),
        Key::with(
            "handshake_timeout",
            Kind::Time(100, 600_000),
            "10s",
            "Until TLS and the PROXY header are through.",
        ),
        Key::with(
            "header_timeout",
            Kind::Time(100, 600_000),
            "10s",
            "From a request's first byte to the end of its head.",
        ),
        Key::with(
            "body_timeout",
            Kind::Time(100, 3_600_000),
            "20s",
            "Between two pieces of a request's body.",
        ),
        Key::with(
            "body_rate",
            Kind::Size(0, 1 << 30),
            "500b",
            "The least a request's body must bring each second, averaged over `body_timeout`; `0b` is no bound.",
        ),
        Key::with(
            "write_timeout",
            Kind::Time(100, 3_600_000),
            "30s",
            "How long a client may take to accept the next piece of a response.",
        ),
        Key::with(
            "idle_timeout",
            Kind::Time(100, 3_600_000),
            "60s",
            "Until a connection without a request is closed.",
        ),
        Key::with(
            "header_bytes",
            Kind::Size(8 << 10, 1 << 20),
            "32kb",
            "Bytes of a request's head; beyond it 431.",
        ),
        Key::with(
            "headers",
            Kind::Whole(16, 1024),
            "100",
            "Header lines of a request; beyond it 431.",
        ),
        Key::with(
            "uri_bytes",
            Kind::Size(256, 64 << 10),
            "8kb",
            "Bytes of a request's target; beyond it 414.",
        ),
        Key::with(
            "max_body",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of a request's body, whatever instances allow in `limits.max_body` of their own; beyond it 413.",
        ),
        Key::with(
            "http2_streams",
            Kind::Whole(1, 10_000),
            "100",
            "Streams of one HTTP/2 connection at the same time.",
        ),
        Key::with(
            "http2_resets",
            Kind::Whole(1, 10_000),
            "20",
            "Streams of one HTTP/2 connection that were reset and are not cleared away; beyond it the connection is closed.",
        ),
        Key::with(
            "http2_control_frames",
            Kind::Whole(10, 1_000_000),
            "500",
            "Frames a second of one HTTP/2 connection that carry neither request nor data; four times as many in a burst; beyond it the connection is closed.",
        ),
        Key::with(
            "websockets",
            Kind::Whole(0, 1_000_000),
            "5000",
            "WebSockets at the same time.",
        ),
        Key::with(
            "websocket_message",
            Kind::Size(125, 64 << 20),
            "1mb",
            "Bytes of one message of a WebSocket; beyond it the socket is closed with 1009.",
        ),
        Key::with(
            "websocket_rate",
            Kind::Whole(1, 1_000_000),
            "1000",
            "Messages a second of one WebSocket; beyond it they are read later.",
        ),
        Key::with(
            "websocket_ping",
            Kind::Time(100, 3_600_000),
            "30s",
            "How long a WebSocket may be silent before it is asked whether it is still there.",
        ),
        Key::with(
            "websocket_pong",
            Kind::Time(100, 3_600_000),
            "20s",
            "How long it may take to answer, or to take a message, before it is closed.",
        ),
    ],
};

/// Reads `limits`.
pub(crate) fn limits(fields: &Fields<'_>) -> GatewayLimits {
    GatewayLimits {
        connections: fields.count("connections"),
        connections_per_address: fields.count("connections_per_address"),
        requests_per_connection: fields.whole("requests_per_connection"),
        handshakes: fields.count("handshakes"),
        handshake_timeout: fields.time("handshake_timeout"),
        header_timeout: fields.time("header_timeout"),
        body_timeout: fields.time("body_timeout"),
        body_rate: fields.size("body_rate"),
        write_timeout: fields.time("write_timeout"),
        idle_timeout: fields.time("idle_timeout"),
        header_bytes: fields.size_here("header_bytes"),
        headers: fields.count("headers"),
        uri_bytes: fields.size_here("uri_bytes"),
        max_body: fields.size("max_body"),
        http2_streams: fields.count32("http2_streams"),
        http2_resets: fields.count("http2_resets"),
        http2_control_frames: fields.count32("http2_control_frames"),
        websocket_message: fields.size_here("websocket_message"),
        websocket_rate: fields.count32("websocket_rate"),
        websocket_ping: fields.time("websocket_ping"),
        websocket_pong: fields.time("websocket_pong"),
        websockets: fields.count("websockets"),
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
        let Some(fields) = Fields::new(top.reader(), &LISTENER, &item) else {
            continue;
        };
        let tls = listener_tls(&fields, shared);
        let proxy_protocol = fields
            .word(
                "proxy_protocol",
                &[
                    ("off", ProxyProtocol::Off),
                    ("optional", ProxyProtocol::Optional),
                    ("required", ProxyProtocol::Required),
                ],
            )
            .unwrap_or_default();
        if proxy_protocol != ProxyProtocol::Off && !top.has("trusted_proxies") {
            let what = "nobody's PROXY header would be taken: no proxy is trusted";
            let allowed = "trusted_proxies at the top of the file, with the proxies' networks";
            fields.refuse("proxy_protocol", Remark::allowed(what, allowed));
        }
        let http2 = fields.flag("http2");
        let Some(address) = address(&fields, "address") else {
            continue;
        };
        if let Some(other) = out.iter().find(|other| clash(other.address, address)) {
            let what = format!("{address} is taken by the listener on {}", other.address);
            fields.refuse("address", what);
        }
        if tls.is_none() && !address.ip().is_loopback() && !top.has("trusted_proxies") {
            let what = "plain HTTP to the network: everyone on the way can read and change it";
            let allowed = "`tls`, or a proxy in front of it that is in trusted_proxies";
            fields.warn("address", Remark::allowed(what, allowed));
        }
        out.push(Listener {
            address,
            tls,
            proxy_protocol,
            http2,
        });
    }
    out
}

fn listener_tls(fields: &Fields<'_>, shared: Option<&Arc<Tls>>) -> Option<Arc<Tls>> {
    let Some(found) = fields.find("tls") else {
        return shared.cloned();
    };
    match found.node.flag() {
        Some(false) => None,
        Some(true) => {
            if shared.is_none() {
                let what = "the file has no section `tls` to take, or it is switched off";
                let allowed = "a section `tls` with certificates, at the top of the file or here";
                fields.refuse("tls", Remark::allowed(what, allowed));
            }
            shared.cloned()
        }
        None if found.node.map().is_some() => tls::read(&fields.own_section("tls")).map(Arc::new),
        None => {
            let kind = Kind::Either(&[Kind::Flag, Kind::Section(&tls::TLS)]);
            fields.reader().wrong(&found, &kind);
            None
        }
    }
}

/// Gives ACME the names of all URLs where it has none of its own, and checks that it can prove them.
pub(crate) fn fill_in_domains(top: &Fields<'_>, listeners: &mut [Listener], marked: &[Marked]) {
    let plain = listeners.iter().any(|listener| listener.tls.is_none());
    let mut told = false;
    for tls in listeners
        .iter_mut()
        .filter_map(|listener| listener.tls.as_mut())
    {
        let Some(acme) = &tls.acme else {
            continue;
        };
        let mut remark = None;
        if acme.challenge == AcmeChallenge::Http01 && !plain {
            let allowed = "a listener with `tls: false` that is reached on port 80, or tls-alpn-01";
            let what = "the challenge http-01 needs a listener without TLS";
            remark = Some(Remark::allowed(what, allowed));
        }
        if acme.domains.is_empty() {
            let domains = names(marked);
            if domains.is_empty() {
                let allowed = "`domains`, or URLs with a host name";
                let what = "ACME has no name to fetch a certificate for";
                remark = Some(Remark::allowed(what, allowed));
            }
            if let Some(acme) = &mut Arc::make_mut(tls).acme {
                acme.domains = domains;
            }
        }
        if let Some(remark) = remark.filter(|_| !told) {
            let key = if top.has("tls") { "tls" } else { "listeners" };
            top.refuse(key, remark);
            told = true;
        }
    }
}

/// Every exact host name that is reached over TLS.
fn names(marked: &[Marked]) -> Vec<String> {
    let urls = marked.iter().flat_map(|one| &one.instance.urls);
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
            top.refuse("https_redirect", Remark::allowed(what, allowed));
            None
        }
        Some(true) => port,
        None => top
            .maybe_whole("https_redirect")
            .and_then(|port| u16::try_from(port).ok()),
    }
}

/// Reads an address and says what is wrong with one.
pub(crate) fn address(fields: &Fields<'_>, name: &str) -> Option<SocketAddr> {
    // A default, or the mistake that there is none.
    let Some(found) = fields.find(name) else {
        return fields.text(name)?.parse().ok();
    };
    let text = found.node.text().unwrap_or_default();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let port = text.rsplit(':').next().unwrap_or_default();
    let nearest = if text.starts_with("localhost:") {
        Some(format!("127.0.0.1:{port}"))
    } else if text.strip_prefix(':').is_some() || text.strip_prefix("*:").is_some() {
        Some(format!("0.0.0.0:{port}"))
    } else if text.parse::<u16>().is_ok() {
        Some(format!("127.0.0.1:{text}"))
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        Some(format!("[{text}]:8080"))
    } else if text.parse::<IpAddr>().is_ok() {
        Some(format!("{text}:8080"))
    } else {
        None
    };
    let remark = Remark {
        what: format!("{:?} is no address", shown(text)),
        allowed: Some(ADDRESS.what.to_owned()),
        nearest,
    };
    fields.refuse(name, remark);
    None
}

/// Whether the system would refuse one of two addresses of listeners, of which those of IPv6 take no IPv4.
pub(crate) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip();
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (same || a.is_ipv4() == b.is_ipv4() && any)
}

/// Whether the system would refuse a listener together with that for metrics, which takes IPv4 too on `[::]`
/// (`net.ipv6.bindv6only`, ip(7)).
pub(crate) fn clash_with_metrics(listener: SocketAddr, metrics: SocketAddr) -> bool {
    let all = metrics.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let same_port = listener.port() == metrics.port() && listener.port() != 0;
    clash(listener, metrics) || (all && same_port)
}

/// Reads one network; a bare address is a network of one.
pub(crate) fn network(text: &str) -> Result<IpNet, Remark> {
    let found: Option<IpNet> = text
        .parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = found else {
        let what = format!("{:?} is no network", shown(text));
        return Err(Remark::allowed(what, NETWORK.what));
    };
    if net.trunc() != net {
        let mut remark = Remark::allowed(
            format!("{text} has bits beyond its prefix"),
            "a network whose address ends with its prefix, or a single address without one",
        );
        remark.nearest = Some(net.trunc().to_string());
        return Err(remark);
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_of_text_is_strict() {
        assert_eq!(network("10.0.0.0/8").ok(), "10.0.0.0/8".parse().ok());
        assert_eq!(network("192.0.2.7").ok(), "192.0.2.7/32".parse().ok());
        assert_eq!(
            network("10.1.2.3/8")
                .err()
                .and_then(|remark| remark.nearest)
                .as_deref(),
            Some("10.0.0.0/8")
        );
        assert!(network("10.0.0.0/33").is_err() && network("x").is_err());
    }

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
