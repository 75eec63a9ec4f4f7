//! Limits of what clients may use over time: requests, bytes and CPU time.
//!
//! Each [`RateRule`] states whose requests are counted together, and one or more allowances. The counters of all
//! rules are in one [`Counters`], whose memory is bounded.
//!
//! Invariants:
//! 1. A request is let in if each allowance that it counts against has something left. One that is refused takes
//!    nothing from any of them.
//! 2. What a request turned out to use (bytes, CPU time) is taken while it is used, also beyond what was left: later
//!    requests wait for that.

mod charges;
mod limit;
mod stated;
mod usage;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, Method, StatusCode, request};
use stockade_auth::{KeyId, KeyLimits};
use stockade_http::PathPattern;
use stockade_limits::{Allowance, Counters, Now, ShownLimits, network};

use crate::access::Refusal;
use crate::credential::Caller;
use crate::rejection::Rejection;

use charges::Charge;
pub(crate) use charges::{Charges, LastCharges};
use limit::Limit;
pub(crate) use stated::RateLimitFields;
pub use usage::{CountedUse, LimitSubject, LimitUse};

/// The limits that keys have themselves, as clients see them.
const OWN_RATE: &str = "key-rate";
const OWN_QUOTA: &str = "key-quota";

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBy {
    /// All requests of the rule.
    Instance,
    /// Those of one client address, of IPv6 those of one network.
    Address,
    /// Those of one API key.
    Key,
    /// Those whose header has one value.
    Header(HeaderName),
    /// Those whose token has one value of a claim.
    Claim(String),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Bytes of requests' bodies and of WebSockets' messages from clients.
    BytesIn,
    /// Bytes of responses' bodies and of WebSockets' messages to clients.
    BytesOut,
    /// Microseconds of CPU time of the site, by the kernel's count. Clients are shown milliseconds.
    Cpu,
}

impl Unit {
    /// The unit's word in names of limits and in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::BytesIn => "bytes_in",
            Self::BytesOut => "bytes_out",
            Self::Cpu => "cpu",
        }
    }

    /// The quota unit of a policy (draft-ietf-httpapi-ratelimit-headers-10, section 3.1.2); requests need none.
    fn quota_unit(self) -> &'static str {
        match self {
            Self::Requests => "",
            Self::BytesIn | Self::BytesOut => ";qu=\"content-bytes\"",
            Self::Cpu => ";qu=\"cpu-milliseconds\"",
        }
    }
}

/// A request as limits see it.
#[derive(Clone, Copy)]
pub(crate) struct LimitedRequest<'a> {
    pub(crate) client: IpAddr,
    pub(crate) head: &'a request::Parts,
    /// In normal form.
    pub(crate) path: &'a str,
    /// Who was let in, where the route asks.
    pub(crate) caller: Option<&'a Caller>,
    /// When its head had been read.
    pub(crate) now: Now,
}

/// Whose request it is, as far as rules ask.
#[derive(Clone, Copy)]
struct Subject<'a> {
    client: Option<IpAddr>,
    key: Option<KeyId>,
    headers: &'a HeaderMap,
    /// The claims of its token.
    claim: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
}

/// Limits for requests that are counted together.
#[derive(Debug, Clone)]
pub struct RateRule {
    /// Whose requests count together: those that are equal in all of these.
    pub by: Vec<LimitBy>,
    /// The rule is for these methods; none: for all.
    pub methods: Vec<Method>,
    /// The rule is for these paths; none: for all.
    pub paths: Vec<PathPattern>,
    /// What clients may use.
    pub allowances: Vec<(Unit, Allowance)>,
}

/// The limits of a route.
#[derive(Debug)]
pub struct RouteLimits {
    counters: Arc<Counters>,
    /// The bits of an IPv6 address that count.
    ipv6_prefix: u8,
    rules: Vec<CompiledRule>,
    /// What responses state of them.
    shown: ShownLimits,
    /// A rule limits CPU time.
    of_cpu: bool,
    /// Requests that differ in nothing but their heads may count against different counters: a rule is by a header or a
    /// claim.
    by_head: bool,
    /// The numbers of the limits that keys have themselves.
    own_rate: u64,
    own_quota: u64,
}

#[derive(Debug)]
struct CompiledRule {
    rule: RateRule,
    limits: Vec<Arc<Limit>>,
}

impl RouteLimits {
    /// Limits of these rules. Each has the name of what shares its counters: an instance, or nothing for all. Responses
    /// state the one that is closest to being used up.
    #[must_use]
    pub fn new(
        counters: Arc<Counters>,
        ipv6_prefix: u8,
        rules: impl IntoIterator<Item = (String, RateRule)>,
    ) -> Self {
        let (own_rate, own_quota) = (counters.limit(OWN_RATE), counters.limit(OWN_QUOTA));
        let rules = rules.into_iter();
        let rules: Vec<_> = rules
            .map(|(owner, rule)| CompiledRule::new(&counters, &owner, rule))
            .collect();
        let mut limits = rules.iter().flat_map(|rule| &rule.limits);
        let of_head = |by: &LimitBy| matches!(by, LimitBy::Header(_) | LimitBy::Claim(_));
        Self {
            of_cpu: limits.any(|limit| limit.unit == Unit::Cpu),
            by_head: rules.iter().any(|one| one.rule.by.iter().any(of_head)),
            rules,
            shown: ShownLimits::default(),
            counters,
            ipv6_prefix,
            own_rate,
            own_quota,
        }
    }

    /// The same limits, of which responses state others.
    #[must_use]
    pub fn showing(self, shown: ShownLimits) -> Self {
        Self { shown, ..self }
    }

    /// Takes what a request needs, or refuses it. `last` has what the last request of its connection counted against.
    /// None where it counts against nothing.
    pub(crate) fn admit(
        self: &Arc<Self>,
        request: LimitedRequest<'_>,
        last: &LastCharges,
    ) -> Result<Option<Admitted>, LimitExceeded> {
        let charges = last.of(self, request, || self.charges(request));
        if charges.is_nothing() {
            return Ok(None);
        }
        let fields = charges.take_request(request.now)?;
        Ok(Some(Admitted { charges, fields }))
    }

    /// What a request counts against.
    fn charges(&self, request: LimitedRequest<'_>) -> Charges {
        let mut charges = Vec::with_capacity(self.rules.len() + 2);

        // The rules of the route.
        let granted = request.caller.and_then(Caller::granted);
        let claim = |name: &str| match request.caller {
            Some(Caller::Token(token)) => token.claim(name).map(Cow::Owned),
            _ => None,
        };
        let parts = Subject {
            client: Some(request.client),
            key: granted.map(|granted| granted.id),
            headers: &request.head.headers,
            claim: &claim,
        };
        let mut subject = Vec::with_capacity(64);
        let mut network = None;
        for compiled in &self.rules {
            if !compiled.rule.is_for(request) {
                continue;
            }
            subject.clear();
            let Some(vouched) = self.write_subject(&compiled.rule.by, parts, &mut subject) else {
                continue;
            };
            let network = (!vouched)
                .then(|| *network.get_or_insert_with(|| self.counters.network(request.client)));
            for limit in &compiled.limits {
                let counter = self.counters.id(limit.id, &subject, network);
                charges.push(Charge::new(Arc::clone(limit), counter));
            }
        }

        // The limits of the key itself.
        if let Some(granted) = granted {
            let subject = granted.id.number().to_be_bytes();
            for limit in self.own_of(&granted.limits()) {
                let counter = self.counters.id(limit.id, &subject, None);
                charges.push(Charge::new(Arc::new(limit), counter));
            }
        }
        Charges::new(&self.counters, charges, self.of_cpu, self.shown)
    }

    /// Which rules are for a request, one bit each. None where that does not say what it counts against.
    fn applying(&self, request: LimitedRequest<'_>) -> Option<u64> {
        if self.by_head || self.rules.len() > 64 {
            return None;
        }
        let rules = self.rules.iter().enumerate();
        Some(rules.fold(0, |bits, (at, compiled)| {
            bits | (u64::from(compiled.rule.is_for(request)) << at)
        }))
    }

    /// The limits that a key has itself.
    fn own_of(&self, limits: &KeyLimits) -> impl Iterator<Item = Limit> + use<> {
        let own = [
            (self.own_rate, OWN_RATE, limits.rate()),
            (self.own_quota, OWN_QUOTA, limits.quota()),
        ];
        own.into_iter().filter_map(|(id, name, allowance)| {
            let name = Cow::Borrowed(name);
            Some(Limit::new(id, name, Unit::Requests, allowance?, false))
        })
    }

    /// Writes whose request it is, in a form in which two subjects are never equal. Returns whether clients cannot
    /// make it up; `None` where a part that is asked for is missing, which happens to no request of a client.
    fn write_subject(
        &self,
        by: &[LimitBy],
        of: Subject<'_>,
        subject: &mut Vec<u8>,
    ) -> Option<bool> {
        let mut part = |kind: u8, bytes: &[u8]| {
            subject.push(kind);
            subject.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
            subject.extend_from_slice(bytes);
        };
        let address = |part: &mut dyn FnMut(u8, &[u8])| {
            match network(of.client?, self.ipv6_prefix) {
                IpAddr::V4(address) => part(b'4', &address.octets()),
                IpAddr::V6(address) => part(b'6', &address.octets()),
            }
            Some(())
        };
        let mut vouched = true;
        for one in by {
            match one {
                LimitBy::Instance => {}
                LimitBy::Address => {
                    address(&mut part)?;
                    vouched = false;
                }
                LimitBy::Key => match of.key.map(|id| id.number().to_be_bytes()) {
                    Some(id) => part(b'k', &id),
                    None => {
                        address(&mut part)?;
                        vouched = false;
                    }
                },
                LimitBy::Claim(name) => {
                    // The issuer of the tokens of one site chooses it, and counters are those of all sites.
                    vouched = false;
                    match (of.claim)(name) {
                        Some(claim) => part(b'c', claim.as_bytes()),
                        None => address(&mut part)?,
                    }
                }
                LimitBy::Header(name) => {
                    vouched = false;
                    // All of them: the site may read any.
                    let mut values = of.headers.get_all(name).iter().peekable();
                    if values.peek().is_none() {
                        address(&mut part)?;
                    }
                    values.for_each(|value| part(b'h', value.as_bytes()));
                }
            }
        }
        Some(vouched)
    }
}

impl CompiledRule {
    fn new(counters: &Counters, owner: &str, rule: RateRule) -> Self {
        let words: Vec<&str> = rule.by.iter().map(LimitBy::word).collect();
        let by = words.join("-");
        let limits = rule.allowances.iter().map(|(unit, allowance)| {
            let name = format!("{by}-{}", unit.word());
            // The same rule has the same counters after a reload.
            let what = format!(
                "{owner}\n{name}\n{allowance:?}\n{:?}\n{:?}\n{:?}",
                rule.by, rule.methods, rule.paths
            );
            let of_all = rule.by == [LimitBy::Instance];
            let id = counters.limit(&what);
            Arc::new(Limit::new(id, name.into(), *unit, *allowance, of_all))
        });
        Self {
            limits: limits.collect(),
            rule,
        }
    }
}

impl fmt::Display for LimitBy {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            other => f.write_str(other.word()),
        }
    }
}

impl LimitBy {
    fn word(&self) -> &str {
        match self {
            Self::Instance => "instance",
            Self::Address => "address",
            Self::Key => "key",
            Self::Header(name) => name.as_str(),
            Self::Claim(name) => name,
        }
    }
}

impl RateRule {
    fn is_for(&self, request: LimitedRequest<'_>) -> bool {
        let path = request.path;
        (self.methods.is_empty() || self.methods.contains(&request.head.method))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
    }
}

/// A request that is within its limits.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) charges: Arc<Charges>,
    /// None if there is nothing to show.
    pub(crate) fields: Option<RateLimitFields>,
}

/// A request beyond a limit.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) struct LimitExceeded {
    limit: Arc<Limit>,
    /// Of its window, in seconds.
    period: u64,
    wait: Duration,
    pub(crate) fields: Option<RateLimitFields>,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = &self.limit;
        let amount = limit.allowance.units().get();
        write!(f, "The limit {} is used up: ", limit.name)?;
        match limit.unit {
            Unit::Cpu => {
                let time = Duration::from_micros(amount);
                write!(f, "{time:?} of CPU time")?;
            }
            unit => write!(f, "{amount} {}", unit.word())?,
        }
        // A month has 28 to 31 days.
        f.write_str(match self.period {
            1 => " in a second.",
            60 => " in a minute.",
            3600 => " in an hour.",
            86_400 => " in a day.",
            _ => " in a month.",
        })
    }
}

impl From<LimitExceeded> for Rejection {
    fn from(error: LimitExceeded) -> Self {
        let detail = error.to_string();
        Self::new(Refusal::RateLimit, StatusCode::TOO_MANY_REQUESTS, detail).retry_after(error.wait)
    }
}
