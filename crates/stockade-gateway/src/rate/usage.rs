//! What is used of limits, for operators, and counters that an operator sets back.
//!
//! A counter does not have the subject that it counts for. So use is looked up for a subject that the operator names,
//! and is that of the counters which a request of this subject would count against.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use stockade_auth::{KeyId, KeyLimits};
use stockade_http::PathPattern;
use stockade_limits::{CounterId, Now};

use super::limit::Limit;
use super::{LimitBy, RouteLimits, Subject, Unit};

/// Whose use is asked for. A part that is missing is missing in the requests that are meant, too.
#[derive(Debug, Clone, Default)]
pub struct LimitSubject {
    /// The API key, and the limits that it has itself.
    pub key: Option<(KeyId, KeyLimits)>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Fields of the request's head.
    pub headers: HeaderMap,
    /// Claims of the client's token as JSON, by their names.
    pub claims: BTreeMap<String, String>,
}

/// A limit, and how much of it a subject uses.
#[derive(Debug, Clone)]
pub struct LimitUse {
    /// Its name, as clients see it: `key-requests`.
    pub name: String,
    /// Whose requests count together; none for the limits of an API key itself, which count at all instances.
    pub by: Vec<LimitBy>,
    /// The methods that it is for; none: all.
    pub methods: Vec<Method>,
    /// The paths that it is for; none: all.
    pub paths: Vec<PathPattern>,
    /// What it counts.
    pub unit: Unit,
    /// Units that come in each window.
    pub amount: u64,
    /// The window, in seconds.
    pub window: u64,
    /// Units that may be used at once: of a rate its burst, of a quota all.
    pub at_once: u64,
    /// What the subject uses; `None` where the subject lacks a part that the limit counts by.
    pub counted: Option<CountedUse>,
}

/// What a counter says.
#[derive(Debug, Clone, Copy)]
pub struct CountedUse {
    /// The counter, for [`Counters::reset`]: the same number after a restart, where quotas are kept in a file.
    pub counter: u64,
    /// Units that are used: of a rate, those of its burst that have not come again.
    pub used: u64,
    /// Units that may be used now.
    pub left: u64,
    /// When all of the burst is there again, or the window of the quota ends.
    pub reset: Duration,
}

impl RouteLimits {
    /// All limits, in the order of the configuration, and how much of each a subject uses.
    #[must_use]
    pub fn uses(&self, subject: &LimitSubject, now: Now) -> Vec<LimitUse> {
        let claim = |name: &str| {
            subject
                .claims
                .get(name)
                .map(|value| Cow::Borrowed(&**value))
        };
        let parts = Subject {
            client: subject.address,
            key: subject.key.as_ref().map(|(id, _)| *id),
            headers: &subject.headers,
            claim: &claim,
        };
        let mut uses = Vec::new();
        let mut text = Vec::new();
        for compiled in &self.rules {
            text.clear();
            let vouched = self.write_subject(&compiled.rule.by, parts, &mut text);
            let network = subject.address.filter(|_| vouched == Some(false));
            let network = network.map(|address| self.counters.network(address));
            for limit in &compiled.limits {
                let counter = vouched.map(|_| self.counters.id(limit.id, &text, network));
                uses.push(LimitUse {
                    by: compiled.rule.by.clone(),
                    methods: compiled.rule.methods.clone(),
                    paths: compiled.rule.paths.clone(),
                    ..self.used_of(limit, counter, now)
                });
            }
        }
        if let Some((id, limits)) = &subject.key {
            for limit in self.own_of(limits) {
                let counter = self.counters.id(limit.id, &id.number().to_be_bytes(), None);
                uses.push(self.used_of(&limit, Some(counter), now));
            }
        }
        uses
    }

    fn used_of(&self, limit: &Limit, counter: Option<CounterId>, now: Now) -> LimitUse {
        let allowance = &limit.allowance;
        let counted = counter.map(|counter| {
            let left = self.counters.left(counter, allowance, now);
            CountedUse {
                counter: counter.number(),
                used: limit.most.saturating_sub(left.units),
                left: left.units,
                reset: left.reset,
            }
        });
        LimitUse {
            name: limit.name.clone().into_owned(),
            by: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            unit: limit.unit,
            amount: allowance.units().get(),
            window: allowance.period(now),
            at_once: limit.most,
            counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use http::Request;
    use stockade_limits::{Allowance, Counters, Period};

    use super::super::{LastCharges, LimitedRequest, RateRule};
    use super::*;

    fn rule(by: LimitBy, period: Period) -> (String, RateRule) {
        let ten = NonZeroU64::new(10).unwrap();
        let rule = RateRule {
            by: vec![by],
            methods: Vec::new(),
            paths: Vec::new(),
            allowances: vec![(Unit::Requests, Allowance::new(ten, period, None))],
        };
        ("shop".to_owned(), rule)
    }

    #[test]
    fn use_is_that_of_the_counters_of_the_subject_and_can_be_set_back() {
        let counters = Arc::new(Counters::new(1024, [7; 16]));
        let rules = [
            rule(LimitBy::Address, Period::Hour),
            rule(LimitBy::Header("x-tenant".parse().unwrap()), Period::Day),
            rule(LimitBy::Instance, Period::Hour),
        ];
        let limits = Arc::new(RouteLimits::new(Arc::clone(&counters), 64, rules));
        let now = Now::read();
        let request = Request::get("/").header("x-tenant", "a").body(()).unwrap();
        let (head, ()) = request.into_parts();
        for _ in 0..3 {
            let request = LimitedRequest {
                client: "2001:db8::1".parse().unwrap(),
                head: &head,
                path: "/",
                caller: None,
                now,
            };
            limits.admit(request, &LastCharges::default()).unwrap();
        }
        let used = |subject: &LimitSubject| {
            let uses = limits.uses(subject, now).into_iter();
            uses.map(|one| {
                (
                    one.name,
                    one.counted.map(|counted| (counted.used, counted.left)),
                )
            })
            .collect::<Vec<_>>()
        };
        let of = |name: &str, used| (format!("{name}-requests"), Some((used, 10 - used)));
        // Of IPv6 addresses one network counts together.
        let subject = LimitSubject {
            address: Some("2001:db8::2".parse().unwrap()),
            headers: head.headers.clone(),
            ..LimitSubject::default()
        };
        let all = [of("address", 3), of("x-tenant", 3), of("instance", 3)];
        assert_eq!(used(&subject), all);
        // Nothing was counted by asking, for a subject that has not sent anything either.
        let other = LimitSubject {
            address: Some("192.0.2.1".parse().unwrap()),
            ..LimitSubject::default()
        };
        let of_other = [of("address", 0), of("x-tenant", 0), of("instance", 3)];
        assert_eq!(used(&other), of_other);
        assert_eq!(counters.count(), 3);
        // Of nobody, only what counts for all is known.
        let unknown = |name: &str| (format!("{name}-requests"), None);
        let of_nobody = [unknown("address"), unknown("x-tenant"), of("instance", 3)];
        assert_eq!(used(&LimitSubject::default()), of_nobody);
        let counters_of = |subject: &LimitSubject| {
            let uses = limits.uses(subject, now).into_iter();
            uses.map(|one| one.counted.unwrap().counter)
                .collect::<Vec<_>>()
        };
        for counter in counters_of(&subject) {
            assert!(counters.reset(counter));
        }
        let all = [of("address", 0), of("x-tenant", 0), of("instance", 0)];
        assert_eq!(used(&subject), all);
        for counter in counters_of(&other).into_iter().take(2) {
            assert!(!counters.reset(counter));
        }
    }

    #[test]
    fn use_of_a_key_has_the_limits_that_the_key_has_itself() {
        let counters = Arc::new(Counters::new(1024, [7; 16]));
        let limits = RouteLimits::new(counters, 64, [rule(LimitBy::Key, Period::Minute)]);
        let own = KeyLimits::parse(Some("5/s"), None, Some("100/day")).unwrap();
        let subject = LimitSubject {
            key: Some((KeyId::from_number(7), own)),
            ..LimitSubject::default()
        };
        let uses = limits.uses(&subject, Now::read());
        let shown = uses.iter().map(|one| {
            (
                &*one.name,
                one.amount,
                one.window,
                one.counted.unwrap().left,
            )
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("key-requests", 10, 60, 10),
                ("key-rate", 5, 1, 5),
                ("key-quota", 100, 86_400, 100)
            ]
        );
    }
}
