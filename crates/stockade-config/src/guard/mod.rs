//! The data guard: what an instance may reach.

mod target;

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use stockade_http::{Host, HostPattern, Scheme};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{
    FILE, HOST, Kind, METHOD, NETWORK, PORTS, TARGET, TEXT, VARIABLE, boolean, integer, list, size,
    text, time,
};
use crate::proxy::{self, PROXY, ProxyUrl};
use crate::secret::SecretRef;
use crate::section::{Words, section, words};
use crate::tree::Message;
use crate::url;
use crate::value::from_text;

section! {
    /// The hosts that an instance may reach with `fetch` and `WebSocket`. A request that no
    /// entry allows is refused, and without entries all are. Private, loopback, link-local
    /// and other non-public addresses are refused even then, unless `allow_private` lists
    /// them.
    pub struct DataGuard "data_guard" {
        /// Must be `true`: the checks cannot be turned off.
        key "enabled" = boolean().default("true"),
        /// Hosts that the instance may reach: a host name, `*.` and a name for all
        /// names below it, or a network. `http://` or `https://` in front restricts the
        /// scheme, and `:` with a port at the end restricts the port; the default is 80
        /// and 443. `"*"` is every public host.
        key "outbound_whitelist" = list(&Kind::Text(TARGET))
            .like(&["[api.example.com, \"*.example.org:443\", \"10.0.0.0/8:5432\"]"]),
        /// Rules with methods, schemes or several ports, in addition to
        /// `outbound_whitelist`.
        pub rules: Vec<GuardRule> = list(&GuardRule::KIND) => rules,
        /// Non-public networks that may be reached if an entry allows the host.
        pub allow_private: Vec<IpNet> = list(&Kind::Text(NETWORK)).like(&["[\"10.0.0.0/8\", \"127.0.0.1\"]"]),
        /// Networks that are never reached, such as the machine's own public addresses.
        pub refuse: Vec<IpNet> = list(&Kind::Text(NETWORK)),
        /// Root certificates (PEM) to trust in addition to the public ones.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Time until a connection is established, including name resolution and TLS.
        pub connect_timeout: Duration = time(10, 600_000).default("10s"),
        /// Time until the head of the response arrives.
        pub response_timeout: Duration = time(10, 3_600_000).default("30s"),
        /// Time between two parts of a body.
        pub idle_timeout: Duration = time(10, 3_600_000).default("30s"),
        /// Time of a whole HTTP request, from the guest's call to the last byte of the
        /// response.
        pub timeout: Duration = time(10, 86_400_000).default("15m"),
        /// Size of a request's body.
        pub max_request: u64 = size(0, 1 << 40).default("100mb"),
        /// Size of a response's body as received.
        pub max_response: u64 = size(0, 1 << 40).default("100mb"),
        /// Size of a response's body after decompression.
        pub max_decompressed: u64 = size(0, 1 << 40).default("200mb"),
        /// Concurrent requests.
        pub concurrent: usize = integer(1, 100_000).default("100"),
        /// Requests that wait for others to finish. Further requests are refused.
        pub queue: usize = integer(0, 100_000).default("256"),
        /// Concurrent WebSockets.
        pub websockets: usize = integer(0, 100_000).default("64"),
        /// Requests per second. Further requests are refused.
        pub rate: Option<u32> = integer(1, 1_000_000).default("10000"),
        /// Bytes per second, both directions together. Further bytes wait.
        pub bandwidth: Option<u64> = size(1 << 10, 1 << 40),
        /// Requests per `total_period`. Further requests are refused.
        pub total_requests: Option<u64> = integer(0, 1 << 50),
        /// Bytes per `total_period`, both directions together. Further requests are
        /// refused.
        pub total_bytes: Option<u64> = size(0, 1 << 50),
        /// The period after which the totals start again.
        pub total_period: Option<Duration> = time(1000, 31_536_000_000)
            .derived("as long as Stockade runs")
            .like(&["1day"]),
    }
}

section! {
    /// One rule: hosts or networks, at these ports, with these methods and schemes.
    pub struct GuardRule "rule" {
        /// A name for the log.
        pub name: String = text(TEXT).derived("its place in the list") => name,
        /// Host names. `*.` in front matches all names below it.
        pub hosts: Vec<HostPattern> = list(&Kind::Text(HOST)).nonempty(),
        /// Networks that match URLs with an address. With `hosts`, all addresses of
        /// these hosts must be in these networks.
        pub addresses: Vec<IpNet> = list(&Kind::Text(NETWORK)).nonempty(),
        /// Ports or ranges.
        pub ports: Vec<PortRange> = list(&Kind::Text(PORTS))
            .derived("those of the schemes")
            .nonempty()
            .like(&["[443, 8000-8999]"]) => ports,
        /// Methods; a WebSocket is opened with GET.
        pub methods: Option<Vec<Method>> = list(&Kind::Text(METHOD))
            .derived("all")
            .nonempty()
            .like(&["[GET, HEAD]"]) => methods,
        /// Schemes; `ws` counts as `http`, `wss` as `https`.
        pub schemes: Vec<Scheme> = list(&Scheme::KIND).nonempty().derived("both") => schemes,
        /// The name of a grant of the kind `wireguard_tunnel`: connections go through this
        /// tunnel, to addresses in the `AllowedIPs` of its peers. Names are then looked up by
        /// its DNS servers and by no others. Of several rules that match, the first decides.
        pub via: Option<String> = text(VARIABLE).like(&["OFFICE"]),
        /// Root certificates (PEM) to trust in addition to those of `data_guard`, for servers and for a proxy.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// A certificate (PEM) to show to servers that ask for one. The guest does not receive it. A changed file is
        /// used for new connections.
        pub client_certificate: Option<PathBuf> = text(FILE),
        /// The private key (PEM) of `client_certificate`.
        pub client_key: Option<PathBuf> = text(FILE),
        /// A proxy for the connections of this rule, over HTTP, over HTTP with TLS, or SOCKS version 5. Stockade resolves
        /// names and checks their addresses, and gives the proxy the address. A rule with `via` cannot have one.
        pub proxy: Option<ProxyUrl> = text(PROXY).like(&["socks5://proxy.internal:1080"]),
        /// `user:password` for the proxy. The guest does not receive it.
        pub proxy_credentials: Option<SecretRef> = SecretRef::key() => proxy::credentials,
        /// Has the proxy resolve names, for networks in which only the proxy can. Their addresses are then checked by
        /// nobody: `allow_private` and `refuse` apply to addresses in URLs only.
        pub proxy_resolves: bool = boolean().default("false"),
    }
}

impl DataGuard {
    /// What is read from files and variables.
    pub(crate) fn secrets(&mut self) -> impl Iterator<Item = &mut SecretRef> {
        let rules = self.rules.iter_mut();
        rules.filter_map(|rule| rule.proxy_credentials.as_mut())
    }
}

words! {
    impl Scheme {
        Http = "http",
        Https = "https",
    }
}

from_text! {
    HostPattern = guard_host,
    Method = method,
    PortRange = PortRange::parse,
}

const BOTH: [Scheme; 2] = [Scheme::Http, Scheme::Https];

/// The rules of `outbound_whitelist` and those of `rules`.
fn rules(fields: &Fields<'_>) -> Vec<GuardRule> {
    let written = fields.find("enabled");
    if written.is_some_and(|found| found.node.flag() == Some(false)) {
        let what = "the data guard can't be switched off";
        let allowed =
            "enabled: true; to let guests reach every public host, outbound_whitelist: [\"*\"]";
        fields.refuse("enabled", Message::allowed(what, allowed));
    }
    // Reports a value that is not a boolean.
    let _: bool = fields.get("enabled");
    let listed = fields.texts("outbound_whitelist", target::entry);
    let full: Vec<GuardRule> = fields.get("rules");
    for (key, rules) in [("outbound_whitelist", &listed), ("rules", &full)] {
        let any = |rule: &GuardRule| rule.hosts.contains(&HostPattern::Any);
        if rules.iter().any(any) {
            let what = "guests may reach every public host, and so send anything anywhere";
            fields.warn(key, what.to_owned());
        }
    }
    listed.into_iter().chain(full).collect()
}

fn name(rule: &Fields<'_>) -> String {
    // A rule that allows nothing is reported where its other keys are read first.
    if !rule.has("hosts") && !rule.has("addresses") {
        let allowed = "`hosts`, `addresses` or both; hosts: [\"*\"] is every public host";
        let what = "the rule does not say what may be reached";
        let at = rule.at;
        rule.reader()
            .source
            .error(at, &rule.path, Message::allowed(what, allowed));
    }
    proxy::check(rule);
    let name: Option<String> = rule.get("name");
    name.unwrap_or_else(|| rule.path.clone())
}

fn schemes(rule: &Fields<'_>) -> Vec<Scheme> {
    if rule.has("schemes") {
        rule.get("schemes")
    } else {
        BOTH.to_vec()
    }
}

fn ports(rule: &Fields<'_>) -> Vec<PortRange> {
    if rule.has("ports") {
        rule.get("ports")
    } else {
        usual_ports(&schemes(rule))
    }
}

fn methods(rule: &Fields<'_>) -> Option<Vec<Method>> {
    rule.has("methods").then(|| rule.get("methods"))
}

fn usual_ports(schemes: &[Scheme]) -> Vec<PortRange> {
    let port = |scheme: &Scheme| PortRange::one(scheme.default_port());
    schemes.iter().map(port).collect()
}

fn method(text: &str) -> Result<Method, Message> {
    let upper = text.to_ascii_uppercase();
    Method::from_bytes(upper.as_bytes()).map_err(|_| {
        let what = format!("{:?} is not a method", shown(text));
        Message::allowed(what, METHOD.what)
    })
}

/// A name, maybe with a wildcard; addresses are no names.
fn guard_host(text: &str) -> Result<HostPattern, Message> {
    let pattern = url::host(text)?;
    if matches!(pattern, HostPattern::Exact(Host::Address(_))) {
        let what = format!("{:?} is an address, not a host name", shown(text));
        return Err(Message::allowed(
            what,
            "a name here, and addresses under `addresses`",
        ));
    }
    Ok(pattern)
}

/// Ports from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
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

    fn parse(text: &str) -> Result<Self, Message> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(Message::allowed(
                format!("{:?} is not a port", shown(text)),
                "a port from 1 to 65535, or a range such as 8000-8999",
            )),
        }
    }
}
