//! Limits of what clients may use over time: requests and bytes.
//!
//! Each [`RateRule`] states whose requests are counted together, and one or more allowances. The counters of all
//! rules are in one [`Counters`], whose memory is bounded.
//!
//! Invariants:
//! 1. A request is let in if each allowance that it counts against has something left. One that is refused takes
//!    nothing from any of them.
//! 2. What a request turned out to use (bytes) is taken while it is used, also beyond what was left: later
//!    requests wait for that.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode, request};
use stockade_auth::KeyId;
use stockade_http::PathPattern;
use stockade_limits::{Allowance, CounterId, Counters, Left, Now, network};

use crate::access::Refusal;
use crate::credential::Caller;
use crate::rejection::Rejection;

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
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::BytesIn => "bytes_in",
            Self::BytesOut => "bytes_out",
        }
    }

    /// The quota unit of a policy (draft-ietf-httpapi-ratelimit-headers-10, section 3.1.2); requests need none.
    fn quota_unit(self) -> &'static str {
        match self {
            Self::Requests => "",
            Self::BytesIn | Self::BytesOut => ";qu=\"content-bytes\"",
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
    /// The API key that let it in.
    pub(crate) key: Option<KeyId>,
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
    /// Of keys that have limits of their own.
    own_rate: Limit,
    own_quota: Limit,
}

#[derive(Debug)]
struct CompiledRule {
    rule: RateRule,
    limits: Vec<(Limit, Unit, Allowance)>,
}

/// What one allowance is called, for clients and for its counters.
#[derive(Debug, Clone)]
struct Limit {
    id: u64,
    name: Arc<str>,
}

impl RouteLimits {
    /// Limits of these rules. Each has the name of what shares its counters: an instance, or nothing for all.
    #[must_use]
    pub fn new(
        counters: Arc<Counters>,
        ipv6_prefix: u8,
        rules: impl IntoIterator<Item = (String, RateRule)>,
    ) -> Self {
        let of_key = |name: &str| Limit {
            id: counters.limit(name),
            name: name.into(),
        };
        let (own_rate, own_quota) = (of_key("key-rate"), of_key("key-quota"));
        let rules = rules.into_iter();
        Self {
            rules: rules
                .map(|(owner, rule)| CompiledRule::new(&counters, &owner, rule))
                .collect(),
            counters,
            ipv6_prefix,
            own_rate,
            own_quota,
        }
    }

    /// Takes what a request needs, or refuses it.
    pub(crate) fn admit(&self, request: LimitedRequest<'_>) -> Result<Arc<Charges>, LimitExceeded> {
        let now = Now::read();
        let address = request.client;
        let caller = request.head.extensions.get::<Caller>();
        let mut charges = Charges {
            counters: Arc::clone(&self.counters),
            taken: Vec::with_capacity(self.rules.len() + 2),
        };
        let mut exceeded = None;
        let mut subject = Vec::new();
        for compiled in &self.rules {
            if !compiled.rule.is_for(request) {
                continue;
            }
            subject.clear();
            let vouched = self.write_subject(&compiled.rule.by, request, &mut subject);
            let network = (!vouched).then_some(address);
            for (limit, unit, allowance) in &compiled.limits {
                let counter = self.counters.id(limit.id, &subject, network);
                let shown = compiled.rule.by != [LimitBy::Instance];
                let charge = Charge::new(limit, *unit, *allowance, counter, shown);
                charges.take(charge, now, &mut exceeded);
            }
        }
        if let Some(Caller::Key { granted, .. }) = caller {
            let of_key = granted.limits();
            let subject = granted.id.number().to_be_bytes();
            for (limit, allowance) in [
                (&self.own_rate, of_key.rate()),
                (&self.own_quota, of_key.quota()),
            ] {
                if let Some(allowance) = allowance {
                    let counter = self.counters.id(limit.id, &subject, None);
                    let charge = Charge::new(limit, Unit::Requests, allowance, counter, true);
                    charges.take(charge, now, &mut exceeded);
                }
            }
        }
        let Some(exceeded) = exceeded else {
            return Ok(Arc::new(charges));
        };
        charges.give_back(now);
        Err(LimitExceeded {
            fields: charges.fields(now),
            ..exceeded
        })
    }

    /// Writes whose request it is, in a form in which two subjects are never equal. Returns whether clients cannot
    /// make it up.
    fn write_subject(
        &self,
        by: &[LimitBy],
        request: LimitedRequest<'_>,
        subject: &mut Vec<u8>,
    ) -> bool {
        let mut part = |kind: u8, bytes: &[u8]| {
            subject.push(kind);
            subject.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
            subject.extend_from_slice(bytes);
        };
        let address = |part: &mut dyn FnMut(u8, &[u8])| {
            let network = network(request.client, self.ipv6_prefix);
            match network {
                IpAddr::V4(address) => part(b'4', &address.octets()),
                IpAddr::V6(address) => part(b'6', &address.octets()),
            }
        };
        let mut vouched = true;
        for one in by {
            match one {
                LimitBy::Instance => {}
                LimitBy::Address => {
                    address(&mut part);
                    vouched = false;
                }
                LimitBy::Key => match request.key.map(|id| id.number().to_be_bytes()) {
                    Some(id) => part(b'k', &id),
                    None => {
                        address(&mut part);
                        vouched = false;
                    }
                },
                LimitBy::Claim(name) => {
                    let claim = match request.head.extensions.get::<Caller>() {
                        Some(Caller::Token(token)) => token.claim(name),
                        _ => None,
                    };
                    // The issuer of the tokens of one site chooses it, and counters are those of all sites.
                    vouched = false;
                    match claim {
                        Some(claim) => part(b'c', claim.as_bytes()),
                        None => address(&mut part),
                    }
                }
                LimitBy::Header(name) => {
                    vouched = false;
                    // All of them: the site may read any.
                    let mut values = request.head.headers.get_all(name).iter().peekable();
                    if values.peek().is_none() {
                        address(&mut part);
                    }
                    values.for_each(|value| part(b'h', value.as_bytes()));
                }
            }
        }
        vouched
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
            let id = counters.limit(&what);
            let name = name.into();
            (Limit { id, name }, *unit, *allowance)
        });
        Self {
            limits: limits.collect(),
            rule,
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

/// What one request counts against.
#[derive(Debug)]
pub(crate) struct Charges {
    counters: Arc<Counters>,
    taken: Vec<Charge>,
}

#[derive(Debug)]
struct Charge {
    name: Arc<str>,
    unit: Unit,
    allowance: Allowance,
    counter: CounterId,
    /// Whether clients are shown what is left: not where they would learn what others use.
    shown: bool,
    left: Left,
    /// Units that are given back if the request is refused.
    units: u64,
}

impl Charge {
    fn new(
        limit: &Limit,
        unit: Unit,
        allowance: Allowance,
        counter: CounterId,
        shown: bool,
    ) -> Self {
        Self {
            name: Arc::clone(&limit.name),
            unit,
            allowance,
            counter,
            shown,
            left: Left {
                units: 0,
                reset: Duration::ZERO,
            },
            units: 0,
        }
    }
}

impl Charges {
    /// Takes one request, or checks that something is left of what is counted while it is used.
    fn take(&mut self, mut charge: Charge, now: Now, exceeded: &mut Option<LimitExceeded>) {
        let units = u64::from(charge.unit == Unit::Requests);
        // Nothing more is taken for a request that is refused.
        let wanted = if exceeded.is_some() { 0 } else { units };
        match self
            .counters
            .try_take(charge.counter, &charge.allowance, wanted, now)
        {
            Ok(left) => {
                charge.left = left;
                charge.units = wanted;
            }
            Err(wait) => {
                charge.left.reset = wait;
                let longest = exceeded.as_ref().is_none_or(|other| other.wait < wait);
                if longest {
                    *exceeded = Some(LimitExceeded {
                        name: Arc::clone(&charge.name),
                        unit: charge.unit,
                        amount: charge.allowance.units().get(),
                        period: charge.allowance.period(now),
                        wait,
                        fields: None,
                    });
                }
            }
        }
        self.taken.push(charge);
    }

    fn give_back(&mut self, now: Now) {
        for charge in &mut self.taken {
            if charge.units > 0 {
                self.counters
                    .give_back(charge.counter, &charge.allowance, charge.units, now);
                charge.left.units = charge.left.units.saturating_add(charge.units);
                charge.units = 0;
            }
        }
    }

    /// Takes units that are used. Returns how long the client must wait before it uses more.
    pub(crate) fn used(&self, unit: Unit, units: u64) -> Duration {
        if !self.counts(unit) {
            return Duration::ZERO;
        }
        let now = Now::read();
        let of_unit = self.taken.iter().filter(|charge| charge.unit == unit);
        of_unit
            .map(|charge| {
                self.counters
                    .take(charge.counter, &charge.allowance, units, now);
                let left = self
                    .counters
                    .try_take(charge.counter, &charge.allowance, 0, now);
                left.err().unwrap_or_default()
            })
            .max()
            .unwrap_or_default()
    }

    /// Whether anything is limited by this unit.
    pub(crate) fn counts(&self, unit: Unit) -> bool {
        self.taken.iter().any(|charge| charge.unit == unit)
    }

    /// `RateLimit-Policy` and `RateLimit`; none if there is nothing to show.
    pub(crate) fn fields(&self, now: Now) -> Option<RateLimitFields> {
        let (mut policy, mut state) = (String::new(), String::new());
        for charge in self.taken.iter().filter(|charge| charge.shown) {
            if !policy.is_empty() {
                policy.push_str(", ");
                state.push_str(", ");
            }
            // Names consist of names of headers and of words of this file: nothing in them is to be escaped.
            let name = &charge.name;
            let (quota, unit) = (charge.allowance.units(), charge.unit.quota_unit());
            let window = charge.allowance.period(now);
            let _ = write!(policy, "\"{name}\";q={quota}{unit};w={window}");
            let (left, reset) = (charge.left.units, whole_seconds(charge.left.reset));
            let _ = write!(state, "\"{name}\";r={left};t={reset}");
        }
        let value = |text: String| HeaderValue::try_from(text).ok();
        (!policy.is_empty())
            .then(|| {
                Some(RateLimitFields {
                    policy: value(policy)?,
                    state: value(state)?,
                })
            })
            .flatten()
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The fields of draft-ietf-httpapi-ratelimit-headers-10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimitFields {
    pub(crate) policy: HeaderValue,
    pub(crate) state: HeaderValue,
}

/// A request beyond a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The limit {name} is used up: {amount} {} in {period} s.", unit.word())]
pub(crate) struct LimitExceeded {
    name: Arc<str>,
    unit: Unit,
    amount: u64,
    period: u64,
    wait: Duration,
    pub(crate) fields: Option<RateLimitFields>,
}

impl From<LimitExceeded> for Rejection {
    fn from(error: LimitExceeded) -> Self {
        let detail = error.to_string();
        Self::new(Refusal::RateLimit, StatusCode::TOO_MANY_REQUESTS, detail).retry_after(error.wait)
    }
}
