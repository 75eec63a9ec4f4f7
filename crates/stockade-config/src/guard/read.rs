//! Reads `data_guard`.

use std::net::IpAddr;

use ipnet::IpNet;
use stockade_http::{Host, HostPattern, Scheme};

use super::keys::RULE;
use super::{DataGuard, GuardRule, PortRange};
use crate::fields::Fields;
use crate::keys::{FILE, Kind, TARGET};
use crate::mistake::shown;
use crate::network;
use crate::tree::Remark;
use crate::url;

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
        .find(|rule| rule.hosts.contains(&HostPattern::Any))
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
    Host(HostPattern),
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
pub(crate) fn guard_host(text: &str) -> Result<HostPattern, Remark> {
    let pattern = url::host(text)?;
    if matches!(pattern, HostPattern::Exact(Host::Address(_))) {
        let what = format!("{:?} is an address, not a host name", shown(text));
        return Err(Remark::allowed(
            what,
            "a name here, and addresses under `addresses`",
        ));
    }
    Ok(pattern)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GuardRule {
        entry(text).unwrap_or_else(|remark| panic!("{text}: {}", remark.what))
    }

    #[test]
    fn whitelist_entry_host_has_usual_ports() {
        let rule = read("API.example.com");
        assert_eq!(
            rule.hosts,
            [HostPattern::Exact(Host::Name("api.example.com".to_owned()))]
        );
        assert_eq!(rule.ports, [PortRange::one(80), PortRange::one(443)]);
        assert_eq!(rule.schemes, BOTH);
        let rule = read("https://*.x.org/");
        assert_eq!(rule.hosts, [HostPattern::Below("x.org".to_owned())]);
        assert_eq!(rule.ports, [PortRange::one(443)]);
        assert_eq!(read("*").hosts, [HostPattern::Any]);
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
