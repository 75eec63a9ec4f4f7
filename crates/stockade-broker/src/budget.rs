//! What an instance may still spend: requests, bytes, and how fast.

use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::audit::Reason;
use crate::policy::{Budget, EgressLimits};

/// What was spent of a budget. Lives as long as the broker, so that a reload renews nothing.
#[derive(Debug)]
pub(crate) struct Spent {
    since: Instant,
    requests: u64,
    bytes: u64,
}

impl Default for Spent {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            requests: 0,
            bytes: 0,
        }
    }
}

impl Spent {
    fn renew(&mut self, budget: &Budget, now: Instant) {
        if budget
            .per
            .is_some_and(|per| now.duration_since(self.since) >= per)
        {
            *self = Self {
                since: now,
                requests: 0,
                bytes: 0,
            };
        }
    }
}

/// Counts against one instance's budget, rate and bandwidth.
pub(crate) struct Purse {
    spent: Arc<Mutex<Spent>>,
    budget: Budget,
    rate: Option<(DefaultDirectRateLimiter, u32)>,
    pace: Option<Pace>,
}

impl Purse {
    pub(crate) fn new(spent: Arc<Mutex<Spent>>, limits: &EgressLimits) -> Self {
        let rate = limits.requests_per_second;
        Self {
            spent,
            budget: limits.budget,
            rate: rate.map(|per| (RateLimiter::direct(Quota::per_second(per)), per.get())),
            pace: limits.bytes_per_second.map(|per| Pace::new(per.get())),
        }
    }

    /// Counts a call against the rate, whatever becomes of it.
    pub(crate) fn call(&self) -> Result<(), Reason> {
        match &self.rate {
            Some((limiter, limit)) if limiter.check().is_err() => {
                Err(Reason::Rate { limit: *limit })
            }
            _ => Ok(()),
        }
    }

    /// Takes one request out of the budget, if bytes are left too.
    pub(crate) fn request(&self) -> Result<(), Reason> {
        let mut spent = self.spent.lock();
        spent.renew(&self.budget, Instant::now());
        if let Some(limit) = self.budget.bytes.filter(|&limit| spent.bytes >= limit) {
            return Err(Reason::Budget { of: "bytes", limit });
        }
        if let Some(limit) = self
            .budget
            .requests
            .filter(|&limit| spent.requests >= limit)
        {
            return Err(Reason::Budget {
                of: "requests",
                limit,
            });
        }
        spent.requests += 1;
        Ok(())
    }

    /// Takes bytes out of the budget. Until when whoever moved them must wait.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<Option<Instant>, Reason> {
        if self.budget.bytes.is_some() {
            let mut spent = self.spent.lock();
            spent.renew(&self.budget, Instant::now());
            spent.bytes = spent.bytes.saturating_add(bytes as u64);
            if let Some(limit) = self.budget.bytes.filter(|&limit| spent.bytes > limit) {
                return Err(Reason::Budget { of: "bytes", limit });
            }
        }
        Ok(self
            .pace
            .as_ref()
            .and_then(|pace| pace.take(bytes, Instant::now())))
    }
}

/// Spreads bytes over time. Up to a quarter of a second's worth may come at once.
struct Pace {
    per_second: f64,
    free_at: Mutex<Instant>,
}

/// Nothing waits longer, whatever the bandwidth.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const BURST: Duration = Duration::from_millis(250);

impl Pace {
    fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            free_at: Mutex::new(Instant::now()),
        }
    }

    fn take(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut free_at = self.free_at.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a piece has fewer than 2^52 bytes"
        )]
        let takes = Duration::try_from_secs_f64(bytes as f64 / self.per_second).unwrap_or(LONGEST);
        let begins = (*free_at).max(earliest).min(now + LONGEST);
        *free_at = begins + takes.min(LONGEST);
        (*free_at > now).then_some(*free_at)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn purse(spent: &Arc<Mutex<Spent>>, change: impl FnOnce(&mut EgressLimits)) -> Purse {
        let mut limits = EgressLimits::default();
        change(&mut limits);
        Purse::new(spent.clone(), &limits)
    }

    #[test]
    fn budget_of_requests_that_is_spent_refuses_and_outlives_a_reload() {
        let spent = Arc::default();
        let limit = |limits: &mut EgressLimits| limits.budget.requests = Some(2);
        let first = purse(&spent, limit);
        assert!(first.request().is_ok());
        assert!(first.request().is_ok());
        let refused = Err(Reason::Budget {
            of: "requests",
            limit: 2,
        });
        assert_eq!(first.request(), refused);
        assert_eq!(purse(&spent, limit).request(), refused);
        assert!(purse(&spent, |_| ()).request().is_ok());
    }

    #[test]
    fn budget_of_bytes_that_is_spent_refuses_more_bytes_and_requests() {
        let purse = purse(&Arc::default(), |limits| limits.budget.bytes = Some(100));
        assert_eq!(purse.bytes(100), Ok(None));
        let refused = Reason::Budget {
            of: "bytes",
            limit: 100,
        };
        assert_eq!(purse.bytes(1), Err(refused.clone()));
        assert_eq!(purse.request(), Err(refused));
    }

    #[test]
    fn budget_after_its_period_is_whole_again() {
        let per = Some(Duration::from_secs(60));
        let budget = Budget {
            per,
            ..Budget::default()
        };
        let mut spent = Spent {
            requests: 5,
            bytes: 7,
            ..Spent::default()
        };
        let begin = spent.since;
        spent.renew(&budget, begin + Duration::from_secs(59));
        assert_eq!((spent.requests, spent.bytes), (5, 7));
        spent.renew(&budget, begin + Duration::from_secs(60));
        assert_eq!((spent.requests, spent.bytes), (0, 0));
    }

    #[test]
    fn rate_refuses_beyond_its_burst() {
        let purse = purse(&Arc::default(), |limits| {
            limits.requests_per_second = NonZeroU32::new(3);
        });
        let allowed = (0..10).filter(|_| purse.call().is_ok()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn bandwidth_makes_the_mover_wait_as_long_as_it_says() {
        let pace = Pace::new(1000);
        let begin = Instant::now();
        let mut now = begin;
        for _ in 0..10 {
            now = pace.take(500, now).unwrap_or(now);
        }
        let took = now.duration_since(begin).as_millis();
        assert!((4700..=5100).contains(&took), "{took} ms");
        let later = now + Duration::from_secs(10);
        assert_eq!(
            pace.take(250, later),
            None,
            "what was not used is there, up to a quarter second"
        );
        assert!(pace.take(250, later).is_some());
    }
}
