//! One instance's way out.
//!
//! The order is fixed: count the call, read the target, hold it against the rules, clean the header,
//! fill in secrets, find a place, resolve, check every address, connect to one of exactly these. A
//! step that fails ends it, and nothing was sent.

mod send;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use rustls::RootCertStore;
use stockade_http::Body;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::audit::{Action, Audit, Reason, Refusal};
use crate::budget::Quota;
use crate::connect::{BrokerError, ConnectFailure, Destination};
use crate::connector::{Connected, Connector, ConnectorParts, Speaks};
use crate::error::EgressError;
use crate::headers;
use crate::in_flight::{Begun, InFlight};
use crate::places::{Missed, Places};
use crate::policy::{Admitted, Denied, EgressPolicy, Rule};
use crate::pool::{Key, Pool};
use crate::resolve::Resolver;
use crate::secrets::Secrets;
use crate::target::Target;

use send::Outgoing;

/// What a fetch waits for when too many are under way.
const PLACE: &str = "waiting for earlier fetches to end";

/// One instance's way out: its policy, secrets, connections and budgets.
pub struct Egress {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Arc<Quota>,
    /// One for all rules with the same certificates and the same proxy or tunnel.
    connectors: Vec<Connector>,
    /// The number of each rule's connector, in the order of the rules.
    of_rules: Vec<usize>,
    resolver: Arc<Resolver>,
    pub(crate) pool: Arc<Pool>,
    places: Places,
    pub(crate) sockets: Arc<Semaphore>,
}

/// What an [`Egress`] is made of.
pub(crate) struct Parts {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Quota,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) resolver: Resolver,
}

/// What a request may go to: the rule that allows it, its connector, and where that connects to.
pub(crate) struct Allowed<'a> {
    pub(crate) rule: &'a Rule,
    /// The number of the connector.
    pub(crate) connector: usize,
    /// All were checked; `None` where the rule's proxy resolves the name.
    pub(crate) addresses: Option<Vec<IpAddr>>,
}

impl Allowed<'_> {
    fn destination<'a>(&'a self, target: &'a Target) -> Destination<'a> {
        match &self.addresses {
            Some(addresses) => Destination::Addresses(addresses, target.port),
            None => Destination::Host(&target.host, target.port),
        }
    }

    /// What kept connections must have in common with the request.
    pub(crate) fn keys(&self, target: &Target) -> Vec<Key> {
        let key = |address| Key::new(target, address, self.connector);
        match &self.addresses {
            Some(addresses) => addresses
                .iter()
                .map(|&address| key(Some(address)))
                .collect(),
            None => vec![key(None)],
        }
    }
}

impl Egress {
    pub(crate) fn new(mut parts: Parts) -> Result<Self, BrokerError> {
        parts.policy.limits = parts.policy.limits.bounded();
        let resolver = Arc::new(parts.resolver);
        let (connectors, of_rules) = connectors(&parts.policy, &parts.roots, &resolver)?;
        let limits = &parts.policy.limits;
        let sockets = parts.policy.limits.websockets.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            instance: parts.instance,
            secrets: parts.secrets,
            audit: parts.audit,
            quota: Arc::new(parts.quota),
            connectors,
            of_rules,
            resolver,
            pool: Arc::default(),
            places: Places::new(limits.concurrent, limits.queued, limits.head_timeout),
            sockets: Arc::new(Semaphore::new(sockets)),
            policy: parts.policy,
        })
    }

    /// Connects to where a request may go.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        allowed: &Allowed<'_>,
        speaks: Speaks,
    ) -> Result<Connected, EgressError> {
        let connected = match self.connectors.get(allowed.connector) {
            Some(connector) => {
                let destination = allowed.destination(target);
                connector.connect(target, destination, speaks).await
            }
            None => Err(ConnectFailure::Tcp(io::ErrorKind::AddrNotAvailable)),
        };
        connected.map_err(|failure| connect_error(target, &failure))
    }

    /// The number of a rule's connector. A rule of another policy has none: no other connector takes its place.
    fn connector_of(&self, rule: &Rule) -> usize {
        let at = (self.policy.rules.iter()).position(|other| std::ptr::eq(other, rule));
        at.and_then(|at| self.of_rules.get(at))
            .copied()
            .unwrap_or(usize::MAX)
    }

    /// Sends a request, under policy. The URI must be absolute.
    ///
    /// Redirects are answers like others. The future may be dropped at any time: the request ends then.
    ///
    /// # Errors
    /// See [`EgressError`]. Errors of the body come from the body; they are `EgressError`s too.
    pub async fn fetch(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EgressError> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let mut target = self.target(Action::Fetch, &parts.uri)?;
        if target.websocket {
            return Err(invalid("the URL", "fetch takes http:// and https:// only"));
        }
        if matches!(parts.method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            return Err(invalid(
                "the method",
                "fetch does not allow CONNECT, TRACE and TRACK",
            ));
        }
        let body = body_for(&parts.method, body)?;
        let admitted = self.admit(Action::Fetch, &target, &parts.method)?;
        let mut headers = parts.headers;
        let declared = headers::clean_request(&mut headers)?;
        let refuse =
            |target: &Target, reason| self.refuse_under(&admitted, Action::Fetch, target, reason);
        let filled = self.fill(&mut headers, &mut target);
        filled.map_err(|reason| refuse(&target, reason))?;
        let place = self.places.take().await.map_err(|missed| match missed {
            Missed::Full { limit } => refuse(&target, Reason::Concurrency { limit }),
            Missed::TimedOut { limit } => timed_out(&target, PLACE, limit),
        })?;
        self.quota
            .request()
            .map_err(|reason| refuse(&target, reason))?;
        let outgoing = Outgoing {
            method: parts.method,
            target,
            headers,
            declared,
        };
        let limit = self.policy.limits.connect_timeout;
        let deadline = Instant::now() + limit;
        let checked = self.checked_addresses(Action::Fetch, &admitted, &outgoing.target);
        let allowed = tokio::time::timeout_at(deadline, checked)
            .await
            .unwrap_or_else(|_| Err(timed_out(&outgoing.target, "resolving the name", limit)))?;
        let in_flight = InFlight::new(Begun {
            instance: self.instance.clone(),
            audit: self.audit.clone(),
            quota: self.quota.clone(),
            action: Action::Fetch,
            target: outgoing.target.to_string(),
            rule: allowed.rule.name.clone(),
            started,
            place,
        });
        self.send(in_flight, outgoing, body, allowed, deadline)
            .await
    }

    /// Counts the call and reads where it goes.
    pub(crate) fn target(&self, action: Action, uri: &Uri) -> Result<Target, EgressError> {
        let target = Target::parse(uri);
        if let Err(reason) = self.quota.call() {
            let text = target
                .as_ref()
                .map_or_else(|_| "an invalid URL".to_owned(), Target::to_string);
            return Err(self.refuse(
                action,
                text,
                Denied {
                    rule: None,
                    reason,
                    address: None,
                },
            ));
        }
        target.map_err(|error| invalid("the URL", error))
    }

    pub(crate) fn admit(
        &self,
        action: Action,
        target: &Target,
        method: &Method,
    ) -> Result<Admitted<'_>, EgressError> {
        let admitted = self.policy.admit(target, method);
        admitted.map_err(|denied| self.refuse(action, target.to_string(), denied))
    }

    /// Puts secrets in the places of their placeholders.
    pub(crate) fn fill(&self, headers: &mut HeaderMap, target: &mut Target) -> Result<(), Reason> {
        self.secrets.fill_headers(headers, target)?;
        self.secrets.fill_path(target)
    }

    pub(crate) fn refuse(&self, action: Action, target: String, denied: Denied) -> EgressError {
        let refusal = Refusal {
            instance: self.instance.clone(),
            action,
            target,
            rule: denied.rule,
            reason: denied.reason,
            address: denied.address,
        };
        self.audit.refused(&refusal);
        EgressError::Refused(Box::new(refusal))
    }

    /// Refuses what a rule would allow.
    pub(crate) fn refuse_under(
        &self,
        admitted: &Admitted<'_>,
        action: Action,
        target: &Target,
        reason: Reason,
    ) -> EgressError {
        let rule = admitted.first_rule();
        self.refuse(
            action,
            target.to_string(),
            Denied {
                rule,
                reason,
                address: None,
            },
        )
    }

    /// Where a request may go: the addresses of its target, all checked, and the rule that allows them.
    pub(crate) async fn checked_addresses<'a>(
        &self,
        action: Action,
        admitted: &Admitted<'a>,
        target: &Target,
    ) -> Result<Allowed<'a>, EgressError> {
        if let Some(rule) = admitted.unresolved(&target.host) {
            return Ok(Allowed {
                rule,
                connector: self.connector_of(rule),
                addresses: None,
            });
        }
        let resolved = match admitted.via() {
            Some(via) => via.addresses(&target.host).await,
            None => self.resolver.addresses(&target.host).await,
        };
        let addresses = resolved.map_err(|failure| EgressError::Resolve {
            target: target.to_string(),
            why: failure.to_string(),
        })?;
        let rule = admitted.check(&addresses);
        let rule = rule.map_err(|denied| self.refuse(action, target.to_string(), denied))?;
        Ok(Allowed {
            rule,
            connector: self.connector_of(rule),
            addresses: Some(addresses),
        })
    }
}

/// The connectors of a policy's rules, and the number of each rule's. Rules with the same certificates, and the same
/// proxy or tunnel, have connections in common.
fn connectors(
    policy: &EgressPolicy,
    roots: &Arc<RootCertStore>,
    resolver: &Arc<Resolver>,
) -> Result<(Vec<Connector>, Vec<usize>), BrokerError> {
    let mut kinds: Vec<&Rule> = Vec::new();
    let mut of_rules = Vec::new();
    for rule in &policy.rules {
        let like = |kind: &&Rule| {
            kind.ca == rule.ca
                && kind.client == rule.client
                && kind.proxy == rule.proxy
                && kind.via == rule.via
        };
        let known = kinds.iter().position(like);
        of_rules.push(known.unwrap_or(kinds.len()));
        if known.is_none() {
            kinds.push(rule);
        }
    }
    let connector = |rule: &&Rule| {
        Connector::new(&ConnectorParts {
            roots: Arc::clone(roots),
            rule,
            ways: &policy.ways,
            resolver,
        })
    };
    let connectors = kinds.iter().map(connector).collect::<Result<_, _>>()?;
    Ok((connectors, of_rules))
}

/// The body to send; none for methods that have none (<https://fetch.spec.whatwg.org/#request-class>).
fn body_for(method: &Method, body: Body) -> Result<Option<Body>, EgressError> {
    let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
    match *method {
        Method::GET | Method::HEAD if is_empty => Ok(None),
        Method::GET | Method::HEAD => Err(invalid("the request", "GET and HEAD have no body")),
        Method::OPTIONS | Method::DELETE if is_empty => Ok(None),
        _ => Ok(Some(body)),
    }
}

pub(crate) fn invalid(what: &'static str, why: impl ToString) -> EgressError {
    EgressError::Invalid {
        what,
        why: why.to_string(),
    }
}

pub(crate) fn timed_out(
    target: &Target,
    what: &'static str,
    limit: std::time::Duration,
) -> EgressError {
    EgressError::TimedOut {
        target: target.to_string(),
        what,
        limit,
    }
}

fn connect_error(target: &Target, failure: &ConnectFailure) -> EgressError {
    let (target, why) = (target.to_string(), failure.to_string());
    match failure {
        ConnectFailure::Tcp(_) | ConnectFailure::Proxy(_) => EgressError::Connect { target, why },
        ConnectFailure::Tls(_) => EgressError::Tls { target, why },
    }
}

#[cfg(test)]
mod tests {
    use stockade_http::Host;

    use super::*;
    use crate::proxy::{Proxy, ProxyProtocol};
    use crate::resolve::ResolverSource;

    #[test]
    fn rules_share_connections_only_with_the_same_certificates_proxy_and_tunnel() {
        let through = |tunnel: &str| Rule {
            via: Some(tunnel.to_owned()),
            ..Rule::default()
        };
        let proxy = |port| Rule {
            proxy: Some(Proxy {
                protocol: ProxyProtocol::Socks5,
                host: Host::parse("127.0.0.1").unwrap(),
                port,
                credentials: None,
                resolves: false,
            }),
            ..Rule::default()
        };
        let policy = EgressPolicy {
            rules: vec![
                through("A"),
                Rule::default(),
                proxy(1),
                through("B"),
                proxy(2),
                through("A"),
                proxy(1),
            ],
            ..EgressPolicy::default()
        };
        let roots = Arc::new(RootCertStore::empty());
        let resolver = Arc::new(Resolver::new(ResolverSource::System));
        let (connectors, of_rules) = connectors(&policy, &roots, &resolver).unwrap();
        assert_eq!(of_rules, [0, 1, 2, 3, 4, 0, 2]);
        assert_eq!(connectors.len(), 5);
    }
}
