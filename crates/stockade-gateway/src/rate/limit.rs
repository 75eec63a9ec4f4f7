//! What one allowance counts and is called, for clients and for its counters.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::HeaderValue;
use stockade_limits::{Allowance, FieldText, Now, Policy, Window, push_policy};

use super::Unit;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Days of the shortest month, and how many lengths of months there are.
const SHORTEST_MONTH: u64 = 28;
const MONTHS: usize = 4;

/// One allowance.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) id: u64,
    pub(super) name: Cow<'static, str>,
    pub(super) unit: Unit,
    pub(super) allowance: Allowance,
    /// Units that may be taken at once.
    pub(super) most: u64,
    /// All requests of the rule count together: clients are not shown what is left, where they would learn what others
    /// use, and idle time of the site counts.
    pub(super) of_all: bool,
    /// Its member of `RateLimit-Policy`, made when it is first shown; one for each length of its window.
    policies: Box<[OnceLock<Option<HeaderValue>>]>,
}

impl Limit {
    pub(super) fn new(
        id: u64,
        name: Cow<'static, str>,
        unit: Unit,
        allowance: Allowance,
        of_all: bool,
    ) -> Self {
        let window = match allowance {
            Allowance::Quota { window, .. } => Some(window),
            Allowance::Rate(_) => None,
        };
        let lengths = if window == Some(Window::Month) {
            MONTHS
        } else {
            1
        };
        Self {
            id,
            name,
            unit,
            allowance,
            most: allowance.at_once(),
            of_all,
            policies: (0..lengths).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Its member of `RateLimit-Policy` at a time.
    pub(super) fn policy(&self, now: Now) -> Option<&HeaderValue> {
        let window = self.allowance.period(now);
        let longer = (window / DAY).saturating_sub(SHORTEST_MONTH);
        let policy = self.policies.get(usize::try_from(longer).ok()?)?;
        policy.get_or_init(|| self.write_policy(window)).as_ref()
    }

    fn write_policy(&self, window: u64) -> Option<HeaderValue> {
        let mut text = FieldText::new();
        let policy = Policy {
            // Names of headers and claims and words of this crate: nothing in them is to be escaped.
            name: &self.name,
            quota_unit: self.unit.quota_unit(),
            quota: self.shown(self.allowance.units().get()),
            window,
        };
        push_policy(&mut text, &policy);
        HeaderValue::from_bytes(&text).ok()
    }

    /// Units that a request takes at its beginning. Others are counted while they are used; something of them must be
    /// left.
    pub(super) fn of_request(&self) -> u64 {
        u64::from(self.unit == Unit::Requests)
    }

    /// Units as clients are shown them.
    pub(super) fn shown(&self, units: u64) -> u64 {
        match self.unit {
            Unit::Cpu => units / 1000,
            _ => units,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Instant;

    use stockade_limits::Period;

    use super::*;

    #[test]
    fn policy_has_the_length_of_its_month_and_is_made_once() {
        let limit = |period| {
            let allowance = Allowance::new(NonZeroU64::new(9).unwrap(), period, None);
            Limit::new(
                1,
                Cow::Borrowed("key-quota"),
                Unit::Requests,
                allowance,
                false,
            )
        };
        let (month, day) = (limit(Period::Month), limit(Period::Day));
        let instant = Instant::now();
        // 2026-11-30, 2026-12-31, 2028-02-29, 2100-02-28, and 2026-11-30 again
        for (seconds, days) in [
            (1_796_083_199, 30),
            (1_798_675_200, 31),
            (1_835_395_200, 29),
            (4_107_456_000, 28),
            (1_796_083_199, 30),
        ] {
            let now = Now { instant, seconds };
            let text = |limit: &Limit| limit.policy(now).unwrap().to_str().unwrap().to_owned();
            let window = days * DAY;
            assert_eq!(text(&month), format!("\"key-quota\";q=9;w={window}"));
            assert_eq!(text(&day), "\"key-quota\";q=9;w=86400");
            let made = |limit: &Limit| limit.policy(now).unwrap().as_bytes().as_ptr();
            assert_eq!(made(&month), made(&month));
        }
    }
}
