//! What one instance may connect to, and how much of it. Nothing is allowed by default.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use stockade_http::{Host, HostPattern};

use crate::address::AddressRules;
use crate::audit::Reason;
use crate::policy::{Admitted, Budget, Denied, EgressLimits, Scope, has_way, names};
use crate::proxy::Proxy;
use crate::rule_tls::ClientCertificate;
use crate::via::Ways;

/// SMTP between servers: what spam goes through.
const SMTP: u16 = 25;

/// Whether a connection has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// None, and it cannot start.
    Off,
    /// From its first byte.
    On,
    /// None at first; it starts when the guest says so.
    StartTls,
}

/// What a rule is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// Whether the broker puts TLS into the connections of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsUse {
    /// A connection has TLS from its first byte, or starts it before the guest has sent much.
    #[default]
    Required,
    /// As the guest wants it.
    Allowed,
    /// Never.
    Off,
}

/// One grant. Everything in it must fit: a connection is allowed when one rule allows all of it.
#[derive(Clone, Debug, Default)]
pub struct SocketRule {
    /// What the configuration calls it, for messages and logs.
    pub name: Arc<str>,
    /// Hosts. Empty: only address literals, inside `addresses`; no name is looked up for such a rule.
    pub hosts: Vec<HostPattern>,
    /// Ranges that every address of the host must be in. Empty: any address that is public or in
    /// [`SocketPolicy::allow_private`].
    pub addresses: Vec<IpNet>,
    /// Ports, in ranges. Port 25 is only in a range of itself.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Connections, or datagrams.
    pub protocol: Protocol,
    /// Whether connections have TLS.
    pub tls: TlsUse,
    /// Files of PEM certificates that are trusted besides Mozilla's roots.
    pub ca: Vec<PathBuf>,
    /// What servers that ask for it are shown.
    pub client: Option<ClientCertificate>,
    /// The tunnel through which it leads, by its name in [`SocketPolicy::ways`].
    pub via: Option<String>,
    /// What connections go through. Datagrams go through none.
    pub proxy: Option<Proxy>,
}

/// Bounds of one instance's connections, all of its mirrors together. Times are limited to between a millisecond and a
/// year.
#[derive(Clone, Debug)]
pub struct SocketLimits {
    /// Connections at the same time, those included that are being opened.
    pub concurrent: usize,
    /// Attempts a second, refused ones included; as many may come at once.
    pub attempts_per_second: Option<NonZeroU32>,
    /// Datagrams that are sent in a second; as many may go at once, and more wait.
    pub datagrams_per_second: Option<NonZeroU32>,
    /// For resolving the name, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// From the guest's call to the end.
    pub lifetime: Duration,
    /// Bytes a second, both ways together; more waits.
    pub bytes_per_second: Option<NonZeroU32>,
    /// What may be spent in all: connections are its requests.
    pub budget: Budget,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            concurrent: 64,
            attempts_per_second: NonZeroU32::new(100),
            datagrams_per_second: NonZeroU32::new(1000),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            lifetime: Duration::from_secs(24 * 3600),
            bytes_per_second: None,
            budget: Budget::default(),
        }
    }
}

impl SocketLimits {
    /// In the terms of HTTP requests, whose counters count these too; with times that no clock overflows on.
    pub(super) fn as_egress(&self) -> EgressLimits {
        EgressLimits {
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            request_timeout: self.lifetime,
            concurrent: self.concurrent,
            requests_per_second: self.attempts_per_second,
            bytes_per_second: self.bytes_per_second,
            budget: self.budget,
            ..EgressLimits::default()
        }
        .bounded()
    }
}

/// Everything an instance may connect to. The default allows nothing.
#[derive(Clone, Debug, Default)]
pub struct SocketPolicy {
    /// Grants. One that allows the connection is enough.
    pub rules: Vec<SocketRule>,
    /// Addresses that are not public and may be reached nevertheless, by connections that a rule allows.
    pub allow_private: Vec<IpNet>,
    /// Addresses that are never reached.
    pub refuse_addresses: Vec<IpNet>,
    /// Bounds.
    pub limits: SocketLimits,
    /// The tunnels that rules name. A rule whose tunnel is not here allows nothing.
    pub ways: Ways,
}

impl Scope for SocketRule {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }
}

impl SocketPolicy {
    /// Holds everything but the addresses against the rules.
    pub(super) fn admit(
        &self,
        host: &Host,
        port: u16,
        protocol: Protocol,
        secure: Secure,
    ) -> Result<Admitted<'_, SocketRule>, Denied> {
        let mut denied = Denied {
            rule: None,
            reason: Reason::HostNotAllowed,
            address: None,
        };
        let mut rules = Vec::new();
        for rule in &self.rules {
            if !names(&rule.hosts, &rule.addresses, host) || !has_way(rule, &self.ways) {
                continue;
            }
            let reason = match rule.fits(port, protocol, secure) {
                Ok(()) => {
                    rules.push(rule);
                    continue;
                }
                Err(reason) => reason,
            };
            // A rule with the right port came nearer than one without it.
            let far = [Reason::PortNotAllowed, Reason::ProtocolNotAllowed];
            if denied.rule.is_none() || !far.contains(&reason) {
                denied.rule = Some(Arc::clone(&rule.name));
                denied.reason = reason;
            }
        }
        if rules.is_empty() {
            return Err(denied);
        }
        let addresses = AddressRules {
            listed: &self.allow_private,
            refused: &self.refuse_addresses,
        };
        Ok(Admitted::new(rules, addresses, &self.ways))
    }
}

impl SocketRule {
    fn fits(&self, port: u16, protocol: Protocol, secure: Secure) -> Result<(), Reason> {
        if self.protocol != protocol {
            return Err(Reason::ProtocolNotAllowed);
        }
        let is_named = |range: &RangeInclusive<u16>| {
            range.contains(&port) && (port != SMTP || range.start() == range.end())
        };
        if !self.ports.iter().any(is_named) {
            return Err(Reason::PortNotAllowed);
        }
        if protocol == Protocol::Udp {
            return Ok(());
        }
        match (self.tls, secure) {
            (TlsUse::Required, Secure::Off) => Err(Reason::TlsRequired),
            // A connection that only might start TLS is one that cannot.
            (TlsUse::Off, Secure::On) => Err(Reason::TlsNotAllowed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, hosts: &[&str], ports: &[RangeInclusive<u16>], tls: TlsUse) -> SocketRule {
        let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap());
        SocketRule {
            name: name.into(),
            hosts: hosts.collect(),
            ports: ports.to_vec(),
            tls,
            ..SocketRule::default()
        }
    }

    fn check(rules: Vec<SocketRule>, host: &str, port: u16, secure: Secure) -> Result<(), Reason> {
        let policy = SocketPolicy {
            rules,
            ..SocketPolicy::default()
        };
        let admitted = policy.admit(&Host::parse(host).unwrap(), port, Protocol::Tcp, secure);
        admitted.map(|_| ()).map_err(|denied| denied.reason)
    }

    #[test]
    fn socket_policy_without_rules_allows_nothing() {
        let refused = Err(Reason::HostNotAllowed);
        assert_eq!(check(Vec::new(), "db.example", 5432, Secure::On), refused);
        assert_eq!(check(Vec::new(), "127.0.0.1", 1, Secure::Off), refused);
    }

    #[test]
    fn socket_rule_allows_its_hosts_at_its_ports_alone() {
        let rules = || {
            vec![
                rule("db", &["db.example"], &[5432..=5433], TlsUse::Allowed),
                rule("mail", &["*.mail.example"], &[587..=587], TlsUse::Required),
            ]
        };
        let allowed = [
            ("DB.example.", 5432, Secure::Off),
            ("db.example", 5433, Secure::On),
            ("a.mail.example", 587, Secure::StartTls),
        ];
        for (host, port, secure) in allowed {
            assert_eq!(check(rules(), host, port, secure), Ok(()), "{host}:{port}");
        }
        let refused = [
            ("db.example", 5434, Secure::On, Reason::PortNotAllowed),
            ("db.example", 587, Secure::On, Reason::PortNotAllowed),
            ("mail.example", 587, Secure::On, Reason::HostNotAllowed),
            ("a.mail.example", 587, Secure::Off, Reason::TlsRequired),
            ("10.0.0.1", 5432, Secure::Off, Reason::HostNotAllowed),
        ];
        for (host, port, secure, reason) in refused {
            let found = check(rules(), host, port, secure);
            assert_eq!(found, Err(reason), "{host}:{port}");
        }
    }

    #[test]
    fn port_of_mail_between_servers_is_allowed_only_by_itself() {
        let any = |ports| vec![rule("any", &["*"], &[ports], TlsUse::Allowed)];
        let refused = check(any(1..=65535), "mx.example", 25, Secure::Off);
        assert_eq!(refused, Err(Reason::PortNotAllowed));
        assert_eq!(check(any(1..=65535), "mx.example", 26, Secure::Off), Ok(()));
        assert_eq!(check(any(25..=25), "mx.example", 25, Secure::Off), Ok(()));
    }

    #[test]
    fn rule_without_tls_refuses_to_start_it() {
        let rules = || vec![rule("plain", &["a.example"], &[1..=9], TlsUse::Off)];
        let refused = check(rules(), "a.example", 1, Secure::On);
        assert_eq!(refused, Err(Reason::TlsNotAllowed));
        for secure in [Secure::Off, Secure::StartTls] {
            assert_eq!(check(rules(), "a.example", 1, secure), Ok(()));
        }
    }

    #[test]
    fn rule_for_connections_allows_no_datagrams_and_the_other_way_round() {
        let of = |protocol| SocketPolicy {
            rules: vec![SocketRule {
                protocol,
                ..rule("dns", &["ns.example"], &[53..=53], TlsUse::Required)
            }],
            ..SocketPolicy::default()
        };
        let host = Host::parse("ns.example").unwrap();
        let fits = |rule, wanted| {
            let policy = of(rule);
            let admitted = policy.admit(&host, 53, wanted, Secure::StartTls);
            admitted.map(|_| ()).map_err(|denied| denied.reason)
        };
        let refused = Err(Reason::ProtocolNotAllowed);
        assert_eq!(fits(Protocol::Udp, Protocol::Udp), Ok(()));
        assert_eq!(fits(Protocol::Tcp, Protocol::Tcp), Ok(()));
        assert_eq!(fits(Protocol::Udp, Protocol::Tcp), refused);
        assert_eq!(fits(Protocol::Tcp, Protocol::Udp), refused);
    }
}
