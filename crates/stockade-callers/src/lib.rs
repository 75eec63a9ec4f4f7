//! Which clients may call which functions of a server: those with an API key. The servers are those of `stockade rpc`
//! and `stockade mcp`.
//!
//! A request is let in by its key before its body is read. Each call, also of a batch, then needs the scope of its
//! function, and counts against the limits of the key. CPU time is charged while calls use it, and refuses later calls.
//!
//! Invariants:
//! 1. A key is looked up only where it stands behind `Bearer` in `authorization`, once. It goes no further.
//! 2. What a key opened can end when the key does: [`Caller::until_invalid`].
//!
//! Deliberately absent: sockets, what a function is, and the protocol in which a refusal is written.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use stockade_auth::{Granted, KeyId, Keys, Scope};
use stockade_http::{Body, Problem, RequestAccount, bearer};
use stockade_limits::{
    Allowance, CounterId, Counters, FieldText, Left, Now, Policy, Standing, push_policy, push_state,
};

/// Names of the fields (draft-ietf-httpapi-ratelimit-headers-10, section 3).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The scope of functions for which none is named.
const DEFAULT_SCOPE: &str = "write";

/// Lets in clients with an API key.
#[derive(Clone)]
pub struct KeyRules {
    /// The keys.
    pub keys: Keys,
    /// The server's name: `math/read` is the scope `read` at the server `math` alone.
    pub name: Arc<str>,
    /// Scopes that calls of functions need. All others need `write`.
    pub scopes: BTreeMap<String, Scope>,
    /// Calls that each key may make.
    pub rate: Option<Allowance>,
    /// CPU time that calls of each key may use, in microseconds.
    pub cpu: Option<Allowance>,
    /// What keys have used of these two, and of the rate and the quota that they have themselves.
    pub counters: Arc<Counters>,
}

impl std::fmt::Debug for KeyRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRules").finish_non_exhaustive()
    }
}

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedFor {
    /// It has no API key, or a wrong one.
    ApiKey,
    /// Its address tried too many wrong API keys.
    Guesses,
    /// Its key does not have the scope of the function.
    Scope,
    /// A limit of its key is used up.
    Limit,
}

/// A client that is refused, and what it asked for.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Why.
    pub reason: RefusedFor,
    /// Where it connects from.
    pub client: IpAddr,
    /// Its key, if that is valid.
    pub key: Option<KeyId>,
    /// The function that it called.
    pub function: Option<&'a str>,
}

/// Takes each refusal, and must be quick: it runs before the client is answered.
pub type OnRefused = Arc<dyn Fn(&Refused<'_>) + Send + Sync>;

/// The rules, and the numbers of the limits.
pub struct Authority {
    rules: KeyRules,
    on_refused: Option<OnRefused>,
    rate: u64,
    cpu: u64,
    own_rate: u64,
    own_quota: u64,
}

/// A client that was let in.
#[derive(Clone)]
pub struct Caller {
    authority: Arc<Authority>,
    granted: Arc<Granted>,
    /// Where it connects from.
    address: IpAddr,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.granted.id)
    }
}

/// One limit of a key, and what a call has taken of it.
struct Charge {
    name: &'static str,
    /// The units that clients are shown, and how many of the counter's each of them has.
    unit: (&'static str, u64),
    allowance: Allowance,
    counter: CounterId,
    /// Units that are given back if the call is refused.
    units: u64,
    outcome: Result<Left, Duration>,
}

impl Charge {
    fn standing(&self) -> Standing {
        Standing {
            outcome: self.outcome,
            most: self.allowance.at_once(),
        }
    }
}

/// Where the CPU time of a key's calls is charged.
#[derive(Debug)]
struct KeyCpu {
    counters: Arc<Counters>,
    counter: CounterId,
    allowance: Allowance,
}

impl RequestAccount for KeyCpu {
    fn used(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        if time > 0 {
            self.counters
                .take(self.counter, &self.allowance, time, Now::read());
        }
    }

    /// What the guest computes for no call is charged to no key.
    fn idle(&self, _: Duration) {}
}

/// What a response to a call has besides its body.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// Set where the call was refused.
    pub status: Option<StatusCode>,
    /// Fields that state the limit of the key that is closest to being used up, or the scope that is missing.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The key does not have this scope.
    Scope(String),
    /// A limit of the key is used up.
    Limit {
        /// The limit, as `RateLimit` names it.
        name: &'static str,
        /// Seconds until the next call.
        seconds: u64,
    },
}

impl Denial {
    /// The reason, for the client.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Scope(scope) => {
                format!("the API key does not allow this: the scope {scope} is needed")
            }
            Self::Limit { name, seconds } => {
                format!("the limit {name} is used up: try again in {seconds} s")
            }
        }
    }
}

impl Noted {
    /// Puts the status and the fields into a response.
    pub fn apply<B>(self, response: &mut Response<B>) {
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        response.headers_mut().extend(self.fields);
    }
}

impl Authority {
    /// Takes the rules. `kind` is that of the server, such as `rpc`: calls and CPU time are counted for each kind.
    #[must_use]
    pub fn new(rules: KeyRules, kind: &str, on_refused: Option<OnRefused>) -> Self {
        let number = |name: &str| rules.counters.limit(name);
        Self {
            rate: number(&format!("{kind}-key-rate")),
            cpu: number(&format!("{kind}-key-cpu")),
            // Those that `stockade serve` has for them, should both ever count in one place.
            own_rate: number("key-rate"),
            own_quota: number("key-quota"),
            on_refused,
            rules,
        }
    }

    fn refused(&self, refused: Refused<'_>) {
        if let Some(on_refused) = &self.on_refused {
            on_refused(&refused);
        }
    }

    /// Lets a client in by the key of its request.
    ///
    /// # Errors
    /// The response to a client that is not let in.
    pub fn authenticate(
        self: &Arc<Self>,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<Caller, Box<Response<Body>>> {
        let keys = &self.rules.keys;
        let refused = |reason| Refused {
            reason,
            client: address,
            key: None,
            function: None,
        };
        let refuse = |status, detail, more: Option<&str>| {
            self.refused(refused(RefusedFor::ApiKey));
            let challenge = more.map(|more| self.challenge(more));
            Err(refusal(headers, Problem::new(status, detail), challenge))
        };
        let key = match bearer(headers) {
            Ok(Some(key)) => key,
            Ok(None) => {
                let detail = "An API key is needed: `authorization: Bearer KEY`.";
                return refuse(StatusCode::UNAUTHORIZED, detail, Some(""));
            }
            Err(_) => {
                let detail = "The request has more than one authorization.";
                return refuse(StatusCode::BAD_REQUEST, detail, None);
            }
        };
        match keys.check(key, SystemTime::now()) {
            Ok(granted) => Ok(Caller {
                authority: Arc::clone(self),
                granted: Arc::new(granted),
                address,
            }),
            // An address that guesses waits. A valid key goes on there: the clients of a proxy share its address.
            Err(_) => {
                let now = Instant::now();
                if let Err(wait) = keys.failures().check(address, now) {
                    self.refused(refused(RefusedFor::Guesses));
                    let detail = "Too many wrong API keys came from this address.";
                    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
                    return Err(refusal(headers, problem.retry_after(wait), None));
                }
                keys.failures().failed(address, now);
                let detail = "The API key is not valid.";
                let more = ", error=\"invalid_token\"";
                refuse(StatusCode::UNAUTHORIZED, detail, Some(more))
            }
        }
    }

    fn challenge(&self, more: &str) -> HeaderValue {
        // The name is one that scopes have: nothing in it is to be escaped.
        let text = format!("Bearer realm=\"{}\"{more}", self.rules.name);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

fn refusal(
    headers: &HeaderMap,
    problem: Problem,
    challenge: Option<HeaderValue>,
) -> Box<Response<Body>> {
    let id = uuid::Uuid::now_v7().to_string();
    let mut response = problem.render(headers, &id);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    Box::new(response)
}

impl Caller {
    /// The key. It is the same for all texts that one key has while it is rotated.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.granted.id
    }

    /// Whether the key is still valid.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let keys = &self.authority.rules.keys;
        keys.is_valid(&self.granted, SystemTime::now())
    }

    /// Whether the text of the key is still valid, and ends later than that with which `other` came.
    #[must_use]
    pub fn outlasts(&self, other: &Self) -> bool {
        self.granted.expires() > other.granted.expires() && self.is_valid()
    }

    /// Ends when the key is revoked, rotated away or expired.
    pub async fn until_invalid(&self) {
        let keys = &self.authority.rules.keys;
        keys.until_invalid(&self.granted).await;
    }

    /// The response to a request whose key has ended while it was answered.
    #[must_use]
    pub fn ended(&self, headers: &HeaderMap) -> Response<Body> {
        let detail = "The API key is no longer valid.";
        let challenge = self.authority.challenge(", error=\"invalid_token\"");
        let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
        *refusal(headers, problem, Some(challenge))
    }

    /// Whether the key may call a function now. Counts the call if it may.
    ///
    /// # Errors
    /// Why it may not, and what the response has besides that.
    pub fn admit(&self, function: &str) -> Result<Noted, (Denial, Noted)> {
        let Authority { rules, .. } = &*self.authority;
        let scope = rules.scopes.get(function);
        let scope = scope.map_or(DEFAULT_SCOPE, Scope::as_str);
        if !self.granted.scopes().include(scope, &rules.name) {
            let more = format!(", error=\"insufficient_scope\", scope=\"{scope}\"");
            let noted = Noted {
                status: Some(StatusCode::FORBIDDEN),
                fields: vec![(WWW_AUTHENTICATE, self.authority.challenge(&more))],
            };
            self.refused(RefusedFor::Scope, function);
            return Err((Denial::Scope(scope.to_owned()), noted));
        }
        let now = Now::read();
        let charges = self.charge(now);
        // Of those that refuse the call, the one with the longest wait is the closest.
        let Some(closest) = closest(&charges) else {
            return Ok(Noted::default());
        };
        let fields = fields(closest, now);
        let Err(wait) = closest.outcome else {
            return Ok(Noted {
                status: None,
                fields,
            });
        };
        // A call that one limit refuses takes nothing from the others.
        let taken = |charge: &&Charge| charge.outcome.is_ok() && charge.units > 0;
        for charge in charges.iter().filter(taken) {
            let counters = &rules.counters;
            counters.give_back(charge.counter, &charge.allowance, charge.units, now);
        }
        self.refused(RefusedFor::Limit, function);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut noted = Noted {
            status: Some(StatusCode::TOO_MANY_REQUESTS),
            fields,
        };
        noted.fields.push((RETRY_AFTER, HeaderValue::from(seconds)));
        let denial = Denial::Limit {
            name: closest.name,
            seconds,
        };
        Err((denial, noted))
    }

    fn refused(&self, reason: RefusedFor, function: &str) {
        self.authority.refused(Refused {
            reason,
            client: self.address,
            key: Some(self.granted.id),
            function: Some(function),
        });
    }

    /// Where the CPU time of the key's calls is charged; `None` where the key's CPU time is not limited.
    #[must_use]
    pub fn account(&self) -> Option<Arc<dyn RequestAccount>> {
        let Authority { rules, cpu, .. } = &*self.authority;
        let allowance = rules.cpu?;
        let subject = self.granted.id.number().to_be_bytes();
        Some(Arc::new(KeyCpu {
            counters: Arc::clone(&rules.counters),
            counter: rules.counters.id(*cpu, &subject, None),
            allowance,
        }))
    }

    /// Takes one call of each limit of the key, and checks that CPU time is left.
    fn charge(&self, now: Now) -> Vec<Charge> {
        let Authority {
            rules,
            rate,
            cpu,
            own_rate,
            own_quota,
            ..
        } = &*self.authority;
        let subject = self.granted.id.number().to_be_bytes();
        let own = self.granted.limits();
        let requests = ("", 1);
        let cpu_time = (";qu=\"cpu-milliseconds\"", 1000);
        let limits = [
            ("key-requests", requests, *rate, rules.rate, 1),
            ("key-rate", requests, *own_rate, own.rate(), 1),
            ("key-quota", requests, *own_quota, own.quota(), 1),
            ("key-cpu", cpu_time, *cpu, rules.cpu, 0),
        ];
        let limits = limits.into_iter();
        let charged = limits.filter_map(|(name, unit, limit, allowance, units)| {
            let allowance = allowance?;
            let counter = rules.counters.id(limit, &subject, None);
            Some(Charge {
                name,
                unit,
                allowance,
                counter,
                units,
                outcome: rules.counters.try_take(counter, &allowance, units, now),
            })
        });
        charged.collect()
    }
}

/// The limit that is closest to being used up; of equal ones the first.
fn closest(charges: &[Charge]) -> Option<&Charge> {
    charges.iter().reduce(|closest, charge| {
        let is_closer = charge.standing().is_closer_than(&closest.standing());
        if is_closer { charge } else { closest }
    })
}

/// `RateLimit-Policy` and `RateLimit`.
fn fields(charge: &Charge, now: Now) -> Vec<(HeaderName, HeaderValue)> {
    let (quota_unit, units) = charge.unit;
    let (mut policy, mut state) = (FieldText::new(), FieldText::new());
    let shown = Policy {
        name: charge.name,
        quota_unit,
        quota: charge.allowance.units().get() / units,
        window: charge.allowance.period(now),
    };
    push_policy(&mut policy, &shown);
    let left = charge.standing().left();
    push_state(&mut state, charge.name, left.units / units, left.reset);
    let fields = [(POLICY, policy), (STATE, state)].into_iter();
    let fields =
        fields.filter_map(|(name, text)| Some((name, HeaderValue::from_bytes(&text).ok()?)));
    fields.collect()
}
