//! What one instance may reach, and how much of it. Nothing is allowed by default.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use stockade_http::{Host, HostPattern, Scheme};

use crate::address::{AddressKind, AddressRules};
use crate::audit::Reason;
use crate::pattern::matches;
use crate::proxy::Proxy;
use crate::rule_tls::ClientCertificate;
use crate::target::Target;
use crate::via::{Via, Ways};

/// One grant. Everything in it must match: a request is allowed when one rule allows all of it.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What the configuration calls it, for messages and logs.
    pub name: Arc<str>,
    /// Hosts. Empty: only address literals, inside `addresses`; no name is looked up for such a rule.
    pub hosts: Vec<HostPattern>,
    /// Ranges that every address of the host must be in. Empty: any address that is public or in
    /// [`EgressPolicy::allow_private`].
    pub addresses: Vec<IpNet>,
    /// Ports, in ranges. Empty: the scheme's own.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Methods. `None`: all that `fetch` allows; an empty list allows none. A WebSocket counts as GET.
    pub methods: Option<Vec<Method>>,
    /// Schemes; a WebSocket has the one of its handshake. Empty: TLS only.
    pub schemes: Vec<Scheme>,
    /// The tunnel through which it leads, by its name in [`EgressPolicy::ways`].
    pub via: Option<String>,
    /// Files of PEM certificates that are trusted besides those of the instance.
    pub ca: Vec<PathBuf>,
    /// What servers that ask for it are shown.
    pub client: Option<ClientCertificate>,
    /// What connections go through.
    pub proxy: Option<Proxy>,
}

/// What an instance may spend, counted until the budget is renewed. It outlives reloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Requests and WebSockets; `None` for any number.
    pub requests: Option<u64>,
    /// Bytes of bodies and messages, both ways, as on the wire; `None` for any number.
    pub bytes: Option<u64>,
    /// How often it is renewed; `None`: never while this process runs.
    pub per: Option<Duration>,
}

/// Bounds of one instance's requests. All are on by default. Times are limited to between a millisecond
/// and a year.
#[derive(Clone, Debug)]
pub struct EgressLimits {
    /// For resolving the name, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// For the response's head, from the last byte of the request that was taken.
    pub head_timeout: Duration,
    /// Between two pieces of a response body that the guest waits for, and between two messages or
    /// pongs of a WebSocket.
    pub idle_timeout: Duration,
    /// For a whole request over HTTP, from the guest's call to the last byte.
    pub request_timeout: Duration,
    /// Bytes of a request body.
    pub max_request_bytes: u64,
    /// Bytes of a response body on the wire.
    pub max_response_bytes: u64,
    /// Bytes of a response body after decompression.
    pub max_decoded_bytes: u64,
    /// Bytes after decompression for each byte before, above the first MiB.
    pub max_ratio: u32,
    /// Requests at the same time, until the end of their response bodies.
    pub concurrent: usize,
    /// Requests that wait for others to end; more are refused.
    pub queued: usize,
    /// WebSockets open at the same time.
    pub websockets: usize,
    /// Bytes of one WebSocket message, either way.
    pub max_message_bytes: usize,
    /// Requests and WebSockets a second, refused ones included; as many may come at once.
    pub requests_per_second: Option<NonZeroU32>,
    /// Bytes a second, both ways together; more waits.
    pub bytes_per_second: Option<NonZeroU32>,
    /// What may be spent in all.
    pub budget: Budget,
}

const MIB: u64 = 1024 * 1024;

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(900),
            max_request_bytes: 100 * MIB,
            max_response_bytes: 100 * MIB,
            max_decoded_bytes: 100 * MIB,
            max_ratio: 200,
            concurrent: 32,
            queued: 256,
            websockets: 32,
            max_message_bytes: 1024 * 1024,
            requests_per_second: NonZeroU32::new(10_000),
            bytes_per_second: None,
            budget: Budget::default(),
        }
    }
}

impl EgressLimits {
    /// With times that no clock overflows on and no timer refuses.
    pub(crate) fn bounded(self) -> Self {
        let bound = |time: Duration| {
            time.clamp(
                Duration::from_millis(1),
                Duration::from_secs(365 * 24 * 3600),
            )
        };
        Self {
            connect_timeout: bound(self.connect_timeout),
            head_timeout: bound(self.head_timeout),
            idle_timeout: bound(self.idle_timeout),
            request_timeout: bound(self.request_timeout),
            ..self
        }
    }
}

/// Everything an instance may do on the network. The default allows nothing.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Grants. One that allows the request is enough.
    pub rules: Vec<Rule>,
    /// Addresses that are not public and may be reached nevertheless, by requests that a rule allows.
    /// A metadata service must be listed as a single address; unspecified, multicast and broadcast
    /// addresses stay refused.
    pub allow_private: Vec<IpNet>,
    /// Addresses that are never reached, such as the machine's own public ones.
    pub refuse_addresses: Vec<IpNet>,
    /// Bounds.
    pub limits: EgressLimits,
    /// The tunnels that rules name. A rule whose tunnel is not here allows nothing.
    pub ways: Ways,
}

/// A refusal before it is known who asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) reason: Reason,
    pub(crate) address: Option<std::net::IpAddr>,
}

/// A rule, as far as addresses are concerned.
pub(crate) trait Scope {
    /// What the configuration calls it.
    fn name(&self) -> &Arc<str>;
    /// Ranges that every address must be in; empty for any.
    fn addresses(&self) -> &[IpNet];
    /// The name of the tunnel through which it leads.
    fn via(&self) -> Option<&str>;
    /// What connections go through.
    fn proxy(&self) -> Option<&Proxy>;
}

impl Scope for Rule {
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

/// Whether a rule with these hosts and networks names `host`.
pub(crate) fn names(hosts: &[HostPattern], addresses: &[IpNet], host: &Host) -> bool {
    match host {
        Host::Address(address) if hosts.is_empty() => {
            addresses.iter().any(|net| net.contains(address))
        }
        host => hosts.iter().any(|pattern| matches(pattern, host)),
    }
}

/// The rules that allow a request as far as it is known before the name is resolved.
#[derive(Debug)]
pub(crate) struct Admitted<'a, R = Rule> {
    rules: Vec<&'a R>,
    addresses: AddressRules<'a>,
    via: Option<Arc<Via>>,
}

impl EgressPolicy {
    /// Holds everything but the addresses against the rules.
    pub(crate) fn admit(&self, target: &Target, method: &Method) -> Result<Admitted<'_>, Denied> {
        let mut nearest = Denied {
            rule: None,
            reason: Reason::HostNotAllowed,
            address: None,
        };
        let mut depth = 0;
        let mut rules = Vec::new();
        let of_host = |rule: &&Rule| {
            names(&rule.hosts, &rule.addresses, &target.host) && has_way(*rule, &self.ways)
        };
        for rule in self.rules.iter().filter(of_host) {
            let (reached, reason) = match rule.fits(target, method) {
                Ok(()) => {
                    rules.push(rule);
                    continue;
                }
                Err(found) => found,
            };
            if reached > depth {
                depth = reached;
                nearest = Denied {
                    rule: Some(rule.name.clone()),
                    reason,
                    address: None,
                };
            }
        }
        if rules.is_empty() {
            return Err(nearest);
        }
        let addresses = AddressRules {
            listed: &self.allow_private,
            refused: &self.refuse_addresses,
        };
        Ok(Admitted::new(rules, addresses, &self.ways))
    }
}

/// Whether a rule leads somewhere: through no tunnel, or through one that is there.
pub(crate) fn has_way(rule: &impl Scope, ways: &Ways) -> bool {
    rule.via().is_none_or(|name| ways.contains_key(name))
}

impl Rule {
    /// Whether all but host and addresses fits; if not, how far it came and why not.
    fn fits(&self, target: &Target, method: &Method) -> Result<(), (u8, Reason)> {
        let is_scheme_allowed = match self.schemes.as_slice() {
            [] => target.scheme.is_secure(),
            schemes => schemes.contains(&target.scheme),
        };
        if !is_scheme_allowed {
            return Err((1, Reason::SchemeNotAllowed));
        }
        let is_port_allowed = match self.ports.as_slice() {
            [] => target.port == target.scheme.default_port(),
            ports => ports.iter().any(|range| range.contains(&target.port)),
        };
        if !is_port_allowed {
            return Err((2, Reason::PortNotAllowed));
        }
        if let Some(methods) = &self.methods
            && !methods.contains(method)
        {
            return Err((3, Reason::MethodNotAllowed));
        }
        Ok(())
    }
}

impl<'a, R: Scope> Admitted<'a, R> {
    /// The first of these rules decides which way the connection goes, so that a name is resolved in one place only:
    /// rules for another way are left out.
    pub(crate) fn new(mut rules: Vec<&'a R>, addresses: AddressRules<'a>, ways: &Ways) -> Self {
        let name = rules.first().and_then(|rule| rule.via());
        rules.retain(|rule| rule.via() == name);
        Self {
            rules,
            addresses,
            via: name.and_then(|name| ways.get(name).cloned()),
        }
    }

    /// The tunnel through which the connection goes.
    pub(crate) fn via(&self) -> Option<&Via> {
        self.via.as_deref()
    }

    /// The name of one of its rules.
    pub(crate) fn first_rule(&self) -> Option<Arc<str>> {
        self.rules.first().map(|rule| rule.name().clone())
    }

    /// The rule that leaves the name to its proxy, which resolves it. An address is always checked here.
    pub(crate) fn unresolved(&self, host: &Host) -> Option<&'a R> {
        let first = self.rules.first().copied()?;
        let resolves = first.proxy().is_some_and(|proxy| proxy.resolves);
        (resolves && matches!(host, Host::Name(_))).then_some(first)
    }

    /// The rule that allows a connection to whichever of `addresses`. One that is not allowed refuses
    /// the whole: a name that points inside and outside at once is an attack or an error.
    pub(crate) fn check(&self, addresses: &[std::net::IpAddr]) -> Result<&'a R, Denied> {
        let first = self.first_rule();
        for &address in addresses {
            // Behind a tunnel its AllowedIPs say what there is, and public addresses mean nothing.
            let checked = match &self.via {
                Some(via) if self.addresses.refuses(address) || !via.reaches(address) => {
                    Err(AddressKind::Public)
                }
                Some(_) => Ok(()),
                None => self.addresses.check(address),
            };
            if let Err(kind) = checked {
                let reason = match kind {
                    AddressKind::Public => Reason::AddressOutsideRule,
                    kind => Reason::AddressNotAllowed(kind),
                };
                return Err(Denied {
                    rule: first,
                    reason,
                    address: Some(address),
                });
            }
        }
        let inside = |rule: &R, address| {
            let nets = rule.addresses();
            nets.is_empty() || nets.iter().any(|net| net.contains(address))
        };
        let fits = |rule: &&&'a R| addresses.iter().all(|address| inside(rule, address));
        self.rules.iter().find(fits).copied().ok_or_else(|| Denied {
            rule: first,
            reason: Reason::AddressOutsideRule,
            address: addresses.first().copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, hosts: &[&str]) -> Rule {
        Rule {
            name: name.into(),
            hosts: hosts
                .iter()
                .map(|host| HostPattern::parse(host).unwrap())
                .collect(),
            ..Rule::default()
        }
    }

    fn check(policy: &EgressPolicy, method: &str, url: &str) -> Result<(), Reason> {
        let target = Target::parse(&url.parse().unwrap()).unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        policy
            .admit(&target, &method)
            .map(|_| ())
            .map_err(|denied| denied.reason)
    }

    #[test]
    fn rule_with_an_empty_list_of_methods_allows_none() {
        let policy = |methods| EgressPolicy {
            rules: vec![Rule {
                methods,
                ..rule("a", &["example.com"])
            }],
            ..EgressPolicy::default()
        };
        let check = |methods| check(&policy(methods), "GET", "https://example.com/");
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(vec![Method::GET])), Ok(()));
        assert_eq!(check(Some(Vec::new())), Err(Reason::MethodNotAllowed));
    }

    #[test]
    fn policy_without_rules_allows_nothing() {
        let policy = EgressPolicy::default();
        assert_eq!(
            check(&policy, "GET", "https://example.com/"),
            Err(Reason::HostNotAllowed)
        );
        assert_eq!(
            check(&policy, "GET", "https://127.0.0.1/"),
            Err(Reason::HostNotAllowed)
        );
    }

    #[test]
    fn rule_with_a_host_only_allows_tls_on_its_port() {
        let rules = vec![rule("api", &["api.example.com"])];
        let policy = EgressPolicy {
            rules,
            ..EgressPolicy::default()
        };
        assert_eq!(check(&policy, "POST", "https://API.example.com./x"), Ok(()));
        assert_eq!(check(&policy, "GET", "wss://api.example.com/"), Ok(()));
        let refused = [
            ("http://api.example.com/", Reason::SchemeNotAllowed),
            ("https://api.example.com:8443/", Reason::PortNotAllowed),
            ("https://example.com/", Reason::HostNotAllowed),
        ];
        for (url, reason) in refused {
            assert_eq!(check(&policy, "GET", url), Err(reason), "{url}");
        }
    }

    #[test]
    fn rules_do_not_add_up_across_their_parts() {
        let mut read = rule("read", &["a.example"]);
        read.methods = Some(vec![Method::GET]);
        let mut write = rule("write", &["a.example"]);
        write.methods = Some(vec![Method::PUT]);
        write.ports = vec![8000..=8443];
        let policy = EgressPolicy {
            rules: vec![read, write],
            ..EgressPolicy::default()
        };
        assert_eq!(check(&policy, "GET", "https://a.example/"), Ok(()));
        assert_eq!(check(&policy, "PUT", "https://a.example:8443/"), Ok(()));
        assert_eq!(
            check(&policy, "PUT", "https://a.example/"),
            Err(Reason::MethodNotAllowed)
        );
        assert_eq!(
            check(&policy, "GET", "https://a.example:8443/"),
            Err(Reason::MethodNotAllowed)
        );
    }

    #[test]
    fn rule_with_addresses_only_allows_literals_inside_and_no_name() {
        let mut only = rule("net", &[]);
        only.addresses = vec!["93.184.216.0/24".parse().unwrap()];
        let policy = EgressPolicy {
            rules: vec![only],
            ..EgressPolicy::default()
        };
        assert_eq!(check(&policy, "GET", "https://93.184.216.34/"), Ok(()));
        assert_eq!(
            check(&policy, "GET", "https://93.184.217.34/"),
            Err(Reason::HostNotAllowed)
        );
        assert_eq!(
            check(&policy, "GET", "https://leak.evil.example/"),
            Err(Reason::HostNotAllowed)
        );
    }

    #[test]
    fn admitted_host_with_one_bad_address_among_good_is_refused_whole() {
        let rules = vec![rule("any", &["*"])];
        let policy = EgressPolicy {
            rules,
            ..EgressPolicy::default()
        };
        let target = Target::parse(&"https://x.example/".parse().unwrap()).unwrap();
        let admitted = policy.admit(&target, &Method::GET).unwrap();
        let good = "93.184.216.34".parse().unwrap();
        let bad = "10.0.0.1".parse().unwrap();
        assert!(admitted.check(&[good]).is_ok());
        let denied = admitted.check(&[good, bad]).unwrap_err();
        assert_eq!(
            denied.reason,
            Reason::AddressNotAllowed(AddressKind::Private)
        );
        assert_eq!(denied.address, Some(bad));
    }

    #[test]
    fn admitted_host_outside_the_rules_ranges_is_refused() {
        let mut rules = vec![rule("cdn", &["cdn.example"])];
        rules[0].addresses = vec!["93.184.216.0/24".parse().unwrap()];
        let policy = EgressPolicy {
            rules,
            ..EgressPolicy::default()
        };
        let target = Target::parse(&"https://cdn.example/".parse().unwrap()).unwrap();
        let admitted = policy.admit(&target, &Method::GET).unwrap();
        assert!(admitted.check(&["93.184.216.34".parse().unwrap()]).is_ok());
        let denied = admitted.check(&["1.1.1.1".parse().unwrap()]).unwrap_err();
        assert_eq!(denied.reason, Reason::AddressOutsideRule);
    }
}
