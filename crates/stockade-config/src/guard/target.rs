//! Entries of `outbound_whitelist`: `[scheme://] (host | network) [:port]`.

use std::net::IpAddr;

use ipnet::IpNet;
use stockade_http::{HostPattern, Scheme};

use super::{BOTH, GuardRule, PortRange, guard_host, usual_ports};
use crate::diagnostic::shown;
use crate::keys::TARGET;
use crate::tree::Message;
use crate::value::network;

/// One entry of `outbound_whitelist`: `[scheme://] (host | network) [:port]`.
pub(super) fn entry(text: &str) -> Result<GuardRule, Message> {
    let (schemes, rest) = match text.split_once("://") {
        Some(("http" | "ws", rest)) => (vec![Scheme::Http], rest),
        Some(("https" | "wss", rest)) => (vec![Scheme::Https], rest),
        Some((scheme, _)) => {
            let what = format!("{:?} is not a scheme here", shown(scheme));
            return Err(Message::allowed(
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
        None => usual_ports(&schemes),
    };
    Ok(GuardRule {
        name: text.to_owned(),
        hosts,
        addresses,
        ports,
        methods: None,
        schemes,
        via: None,
        ca: Vec::new(),
        client_certificate: None,
        client_key: None,
        proxy: None,
        proxy_credentials: None,
        proxy_resolves: false,
    })
}

enum Target {
    Host(HostPattern),
    Network(IpNet),
}

/// Host or network, and port.
fn split(text: &str) -> Result<(Target, Option<PortRange>), Message> {
    // A bare IPv6 network has colons of its own, and takes no port.
    if text.matches(':').count() > 1 && !text.starts_with('[') {
        return Ok((Target::Network(network(text)?), None));
    }
    if let Some((inner, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(PortRange::parse(port)?),
            None if rest.is_empty() => None,
            None => return Err(Message::allowed("text follows the bracket", TARGET.what)),
        };
        return Ok((Target::Network(network(inner)?), port));
    }
    let (target, port) = match text.split_once(':') {
        Some((target, port)) => (target, Some(PortRange::parse(port)?)),
        None => (text, None),
    };
    if target.contains('/') {
        if target.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok((Target::Network(network(target)?), port));
        }
        let mut message =
            Message::allowed("a path can't be allowed, only a whole host", TARGET.what);
        message.nearest = target.split('/').next().map(str::to_owned);
        return Err(message);
    }
    Ok((host(target)?, port))
}

fn host(text: &str) -> Result<Target, Message> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target::Network(IpNet::from(address)));
    }
    Ok(Target::Host(guard_host(text)?))
}

#[cfg(test)]
mod tests {
    use stockade_http::Host;

    use super::*;

    fn read(text: &str) -> GuardRule {
        entry(text).unwrap_or_else(|message| panic!("{text}: {}", message.what))
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
