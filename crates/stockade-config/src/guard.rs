//! The data guard: what an instance may reach.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::fields::Fields;
use crate::keys::{FILE, HOST, Key, Kind, METHOD, NETWORK, PORTS, Section, TARGET, TEXT};
use crate::mistake::shown;
use crate::network;
use crate::tree::Remark;
use crate::url::{self, HostPattern, Scheme};

/// What an instance may reach. Without rules: nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct DataGuard {
    /// A request needs one that allows it.
    pub rules: Vec<GuardRule>,
    /// Private, loopback, link-local and other special networks that may be reached all the same,
    /// where a rule allows the host.
    pub allow_private: Vec<IpNet>,
    /// Networks that are never reached, whatever else allows them.
    pub refuse: Vec<IpNet>,
    /// Roots to trust beside the public ones; PEM.
    pub ca: Vec<PathBuf>,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Until the head of the response is there.
    pub response_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// For a whole exchange over HTTP, from the guest's call to the last byte.
    pub timeout: Duration,
    /// Bytes of one request's body.
    pub max_request: u64,
    /// Bytes of one response's body as received.
    pub max_response: u64,
    /// Bytes of one response's body after decompression.
    pub max_decompressed: u64,
    /// Requests at the same time.
    pub concurrent: usize,
    /// Requests that wait for others to end; more are refused.
    pub queue: usize,
    /// WebSockets at the same time.
    pub websockets: usize,
    /// Requests a second.
    pub rate: Option<u32>,
    /// Bytes a second, both directions together.
    pub bandwidth: Option<u64>,
    /// Bytes in each `total_period`, both directions together.
    pub total_bytes: Option<u64>,
    /// Requests in each `total_period`.
    pub total_requests: Option<u64>,
    /// How often the totals begin again; `None` is never while Stockade runs.
    pub total_period: Option<Duration>,
}

/// One thing that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRule {
    /// For logs: the entry of `outbound_whitelist` as written, or the rule's name.
    pub name: String,
    /// Names allowed. Hosts and addresses: one of either must match.
    pub hosts: Vec<GuardHost>,
    /// Addresses allowed, for URLs that name an address and for names that resolve to one.
    pub addresses: Vec<IpNet>,
    /// Ports allowed; never empty.
    pub ports: Vec<PortRange>,
    /// Methods allowed, upper case; empty allows any.
    pub methods: Vec<String>,
    /// Schemes allowed; never empty. WebSockets count as the scheme they begin with.
    pub schemes: Vec<Scheme>,
}

/// A name that may be reached, lower case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuardHost {
    /// Every name that resolves to a public address.
    Any,
    /// This one.
    Exact(String),
    /// Every name below this one, which itself is not meant: `*.example.com` is `example.com`.
    Below(String),
}

/// Ports from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// `data_guard`.
pub(crate) const DATA_GUARD: Section = Section {
    name: "data_guard",
    doc: "What an instance may reach with `fetch` and `WebSocket`. What no entry allows is refused; without entries nothing can be reached. Private, loopback, link-local and other special addresses are refused even then, unless `allow_private` lists them.",
    keys: &[
        Key::with(
            "enabled",
            Kind::Flag,
            "true",
            "The guard can't be switched off; the key is there to say so.",
        ),
        Key::maybe(
            "outbound_whitelist",
            Kind::List(&Kind::Text(TARGET)),
            "What may be reached: a host name, `*.` and a name for all below it, or a network; with `http://` or `https://` before it where only that is meant, and `:` and a port behind it. Without a port 80 and 443 are meant. `\"*\"` is every public host.",
        )
        .like(&["[api.example.com, \"*.example.org:443\", \"10.0.0.0/8:5432\"]"]),
        Key::maybe(
            "rules",
            Kind::List(&Kind::Section(&RULE)),
            "The same where methods or several ports matter.",
        ),
        Key::maybe(
            "allow_private",
            Kind::List(&Kind::Text(NETWORK)),
            "Special networks that may be reached all the same, where an entry allows the host.",
        )
        .like(&["[\"10.0.0.0/8\", \"127.0.0.1\"]"]),
        Key::maybe(
            "refuse",
            Kind::List(&Kind::Text(NETWORK)),
            "Networks that are never reached, such as the machine's own public addresses.",
        ),
        Key::maybe(
            "ca",
            Kind::List(&Kind::Text(FILE)),
            "Roots, PEM, to trust beside the public ones.",
        ),
        Key::with(
            "connect_timeout",
            Kind::Time(10, 600_000),
            "10s",
            "Until a connection stands, names resolved and TLS through.",
        ),
        Key::with(
            "response_timeout",
            Kind::Time(10, 3_600_000),
            "30s",
            "Until the head of the response is there.",
        ),
        Key::with(
            "idle_timeout",
            Kind::Time(10, 3_600_000),
            "30s",
            "Between two pieces of a body.",
        ),
        Key::with(
            "timeout",
            Kind::Time(10, 86_400_000),
            "15m",
            "For a whole exchange over HTTP, from the guest's call to the last byte.",
        ),
        Key::with(
            "max_request",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of one request's body.",
        ),
        Key::with(
            "max_response",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of one response's body as received.",
        ),
        Key::with(
            "max_decompressed",
            Kind::Size(0, 1 << 40),
            "200mb",
            "Bytes of one response's body after decompression.",
        ),
        Key::with(
            "concurrent",
            Kind::Whole(1, 100_000),
            "100",
            "Requests at the same time.",
        ),
        Key::with(
            "queue",
            Kind::Whole(0, 100_000),
            "256",
            "Requests that wait for others to end; beyond it they are refused.",
        ),
        Key::with(
            "websockets",
            Kind::Whole(0, 100_000),
            "64",
            "WebSockets at the same time.",
        ),
        Key::with(
            "rate",
            Kind::Whole(1, 1_000_000),
            "100",
            "Requests a second; beyond it they are refused.",
        ),
        Key::maybe(
            "bandwidth",
            Kind::Size(1 << 10, 1 << 40),
            "Bytes a second, both directions together; beyond it they wait.",
        ),
        Key::maybe(
            "total_requests",
            Kind::Whole(0, 1 << 50),
            "Requests in each `total_period`; beyond it they are refused.",
        ),
        Key::maybe(
            "total_bytes",
            Kind::Size(0, 1 << 50),
            "Bytes in each `total_period`, both directions together; beyond it requests are refused.",
        ),
        Key::derived(
            "total_period",
            Kind::Time(1000, 31_536_000_000),
            "as long as Stockade runs",
            "How often the totals begin again.",
        )
        .like(&["1day"]),
    ],
};

const RULE: Section = Section {
    name: "rule",
    doc: "One thing that is allowed: hosts or networks, at these ports, with these methods and schemes.",
    keys: &[
        Key::derived(
            "name",
            Kind::Text(TEXT),
            "its place in the list",
            "For logs.",
        ),
        Key::maybe(
            "hosts",
            Kind::List(&Kind::Text(HOST)),
            "Host names, `*.` before one for all below it.",
        ),
        Key::maybe(
            "addresses",
            Kind::List(&Kind::Text(NETWORK)),
            "Networks, for URLs with an address and names that resolve to one.",
        ),
        Key::derived(
            "ports",
            Kind::List(&Kind::Text(PORTS)),
            "those of the schemes",
            "Ports or ranges.",
        )
        .like(&["[443, 8000-8999]"]),
        Key::derived(
            "methods",
            Kind::List(&Kind::Text(METHOD)),
            "all",
            "Methods; a WebSocket is opened with GET.",
        )
        .like(&["[GET, HEAD]"]),
        Key::derived(
            "schemes",
            Kind::List(&Kind::Words(&["http", "https"])),
            "both",
            "Schemes; `ws` counts as `http`, `wss` as `https`.",
        ),
    ],
};

const BOTH: [Scheme; 2] = [Scheme::Http, Scheme::Https];

/// Reads `data_guard`.
pub(crate) fn read(fields: &Fields<'_>) -> DataGuard {
    if !fields.flag("enabled")
        && fields
            .find("enabled")
            .is_some_and(|f| f.node.flag() == Some(false))
    {
        fields.refuse(
            "enabled",
            Remark::allowed(
                "the data guard can't be switched off",
                "enabled: true; to let guests reach every public host, outbound_whitelist: [\"*\"]",
            ),
        );
    }
    let mut rules = fields.texts("outbound_whitelist", entry);
    rules.extend(read_rules(fields));
    if let Some(wide) = rules
        .iter()
        .find(|rule| rule.hosts.contains(&GuardHost::Any))
    {
        let key = if wide.name.contains('*') {
            "outbound_whitelist"
        } else {
            "rules"
        };
        let what = "guests may reach every public host, and so send anything anywhere";
        fields.warn(key, what.to_owned());
    }
    DataGuard {
        rules,
        allow_private: fields.texts("allow_private", network::network),
        refuse: fields.texts("refuse", network::network),
        ca: fields.paths("ca", FILE),
        connect_timeout: fields.time("connect_timeout"),
        response_timeout: fields.time("response_timeout"),
        idle_timeout: fields.time("idle_timeout"),
        timeout: fields.time("timeout"),
        max_request: fields.size("max_request"),
        max_response: fields.size("max_response"),
        max_decompressed: fields.size("max_decompressed"),
        concurrent: fields.count("concurrent"),
        queue: fields.count("queue"),
        websockets: fields.count("websockets"),
        rate: fields.maybe_count32("rate"),
        bandwidth: fields.maybe_size("bandwidth"),
        total_bytes: fields.maybe_size("total_bytes"),
        total_requests: fields.maybe_whole("total_requests"),
        total_period: fields.maybe_time("total_period"),
    }
}

/// One entry of `outbound_whitelist`: `[scheme://] (host | network) [:port]`.
fn entry(text: &str) -> Result<GuardRule, Remark> {
    let (schemes, rest) = match text.split_once("://") {
        Some(("http" | "ws", rest)) => (vec![Scheme::Http], rest),
        Some(("https" | "wss", rest)) => (vec![Scheme::Https], rest),
        Some((scheme, _)) => {
            let what = format!("{:?} is no scheme here", shown(scheme));
            return Err(Remark::allowed(
                what,
                "https://, http:// or neither, for both",
            ));
        }
        None => (BOTH.to_vec(), text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (target, port) = split(rest)?;
    let (hosts, addresses) = match target {
        Target::Host(host) => (vec![host], Vec::new()),
        Target::Network(net) => (Vec::new(), vec![net]),
    };
    let ports = match port {
        Some(ports) => vec![ports],
        None => usual(&schemes),
    };
    Ok(GuardRule {
        name: text.to_owned(),
        hosts,
        addresses,
        ports,
        methods: Vec::new(),
        schemes,
    })
}

enum Target {
    Host(GuardHost),
    Network(IpNet),
}

/// Host or network, and port.
fn split(text: &str) -> Result<(Target, Option<PortRange>), Remark> {
    // A bare IPv6 network has colons of its own, and takes no port.
    if text.matches(':').count() > 1 && !text.starts_with('[') {
        return Ok((Target::Network(network::network(text)?), None));
    }
    if let Some((inner, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(PortRange::parse(port)?),
            None if rest.is_empty() => None,
            None => return Err(Remark::allowed("text follows the bracket", TARGET.what)),
        };
        return Ok((Target::Network(network::network(inner)?), port));
    }
    let (target, port) = match text.split_once(':') {
        Some((target, port)) => (target, Some(PortRange::parse(port)?)),
        None => (text, None),
    };
    if target.contains('/') {
        if target.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok((Target::Network(network::network(target)?), port));
        }
        let mut remark = Remark::allowed("a path can't be allowed, only a whole host", TARGET.what);
        remark.nearest = target.split('/').next().map(str::to_owned);
        return Err(remark);
    }
    Ok((host(target)?, port))
}

fn host(text: &str) -> Result<Target, Remark> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target::Network(IpNet::from(address)));
    }
    Ok(Target::Host(guard_host(text)?))
}

/// A name, maybe with a wildcard; addresses are no names.
pub(crate) fn guard_host(text: &str) -> Result<GuardHost, Remark> {
    match url::host(text)? {
        HostPattern::Any => Ok(GuardHost::Any),
        HostPattern::Below(name) => Ok(GuardHost::Below(name)),
        HostPattern::Exact(name) if name.starts_with('[') || name.parse::<IpAddr>().is_ok() => {
            let what = format!("{:?} is an address, not a host name", shown(text));
            Err(Remark::allowed(
                what,
                "a name here, and addresses under `addresses`",
            ))
        }
        HostPattern::Exact(name) => Ok(GuardHost::Exact(name)),
    }
}

fn read_rules(fields: &Fields<'_>) -> Vec<GuardRule> {
    let mut out = Vec::new();
    for item in fields.list("rules") {
        let Some(rule) = Fields::new(fields.reader(), &RULE, &item) else {
            continue;
        };
        let hosts = rule.texts("hosts", guard_host);
        let addresses = rule.texts("addresses", network::network);
        if !rule.has("hosts") && !rule.has("addresses") {
            let allowed = "`hosts`, `addresses` or both; hosts: [\"*\"] is every public host";
            let what = "the rule does not say what may be reached";
            fields
                .reader()
                .refuse(&item, Remark::allowed(what, allowed));
        }
        let mut schemes = schemes(&rule);
        if schemes.is_empty() {
            schemes = BOTH.to_vec();
        }
        let mut ports = rule.texts("ports", PortRange::parse);
        if ports.is_empty() {
            ports = usual(&schemes);
        }
        out.push(GuardRule {
            name: rule.text("name").unwrap_or_else(|| item.path.clone()),
            hosts,
            addresses,
            ports,
            methods: rule.texts("methods", |text| Ok(text.to_ascii_uppercase())),
            schemes,
        });
    }
    out
}

fn schemes(rule: &Fields<'_>) -> Vec<Scheme> {
    let mut out = Vec::new();
    for item in rule.list("schemes") {
        match item.node.text() {
            Some("http") => out.push(Scheme::Http),
            Some("https") => out.push(Scheme::Https),
            _ => rule.reader().wrong(&item, &Kind::Words(&["http", "https"])),
        }
    }
    out
}

fn usual(schemes: &[Scheme]) -> Vec<PortRange> {
    let port = |scheme: &Scheme| PortRange::one(if *scheme == Scheme::Http { 80 } else { 443 });
    schemes.iter().map(port).collect()
}

impl fmt::Display for GuardHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl PortRange {
    /// A single port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether the port is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn parse(text: &str) -> Result<Self, Remark> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(Remark::allowed(
                format!("{:?} is no port", shown(text)),
                "a port from 1 to 65535, or a range such as 8000-8999",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GuardRule {
        entry(text).unwrap_or_else(|remark| panic!("{text}: {}", remark.what))
    }

    #[test]
    fn whitelist_entry_host_has_usual_ports() {
        let rule = read("API.example.com");
        assert_eq!(rule.hosts, [GuardHost::Exact("api.example.com".to_owned())]);
        assert_eq!(rule.ports, [PortRange::one(80), PortRange::one(443)]);
        assert_eq!(rule.schemes, BOTH);
        let rule = read("https://*.x.org/");
        assert_eq!(rule.hosts, [GuardHost::Below("x.org".to_owned())]);
        assert_eq!(rule.ports, [PortRange::one(443)]);
        assert_eq!(read("*").hosts, [GuardHost::Any]);
    }

    #[test]
    fn whitelist_entry_network_has_its_port() {
        let rule = read("10.0.0.0/8:5432");
        assert_eq!(rule.addresses, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(rule.ports, [PortRange::one(5432)]);
        assert_eq!(
            read("2001:db8::/32").addresses,
            ["2001:db8::/32".parse().unwrap()]
        );
        let rule = read("[2001:db8::1]:8443");
        assert_eq!(rule.addresses, ["2001:db8::1/128".parse().unwrap()]);
        assert_eq!(rule.ports, [PortRange::one(8443)]);
        let rule = read("127.0.0.1:8000-8010");
        assert!(rule.ports[0].contains(8010) && !rule.ports[0].contains(8011));
    }

    #[test]
    fn whitelist_entry_that_means_nothing_is_refused() {
        for text in [
            "ftp://a.b",
            "a.b/path",
            "a.*.b",
            "10.0.0.1/8",
            "a.b:0",
            "a.b:9-1",
            "a.b:x",
            "[::1",
            "[::1]x",
            "10.0.0.0/40",
            ":80",
            "http://",
        ] {
            assert!(entry(text).is_err(), "{text}");
        }
    }
}
