//! What an instance may still spend: requests, bytes, and how fast.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stockade_limits::RateLimiter;
use tokio::time::Instant;

use crate::audit::Reason;
use crate::policy::Budget;

/// What was spent of a budget. Lives as long as the broker, so that a reload renews nothing.
#[derive(Debug)]
pub struct Spent {
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

/// Requests of this time may come at once.
const REQUESTS_AT_ONCE: Duration = Duration::from_secs(1);

/// Bytes of this time may come at once.
const BYTES_AT_ONCE: Duration = Duration::from_millis(250);

/// Counts against the budget, rate and bandwidth of one instance, or of one grant.
pub struct Quota {
    spent: Arc<Mutex<Spent>>,
    budget: Budget,
    rate: Option<(Mutex<RateLimiter>, u32)>,
    bandwidth: Option<Mutex<RateLimiter>>,
}

impl Quota {
    /// Counts on from what was spent. `rate` is in requests and `bandwidth` in bytes per second.
    #[must_use]
    pub fn new(
        spent: Arc<Mutex<Spent>>,
        budget: Budget,
        rate: Option<NonZeroU32>,
        bandwidth: Option<NonZeroU32>,
    ) -> Self {
        let limiter = |per: NonZeroU32, burst| Mutex::new(RateLimiter::new(per.into(), burst));
        Self {
            spent,
            budget,
            rate: rate.map(|per| (limiter(per, REQUESTS_AT_ONCE), per.get())),
            bandwidth: bandwidth.map(|per| limiter(per, BYTES_AT_ONCE)),
        }
    }

    /// Counts a call against the rate, also one that fails.
    ///
    /// # Errors
    /// [`Reason::Rate`].
    pub fn call(&self) -> Result<(), Reason> {
        match &self.rate {
            Some((limiter, limit)) => {
                let taken = limiter.lock().try_take(1, Instant::now().into_std());
                taken.map_err(|_| Reason::Rate { limit: *limit })
            }
            None => Ok(()),
        }
    }

    /// Takes one request out of the budget, if bytes are left too.
    ///
    /// # Errors
    /// [`Reason::Budget`].
    pub fn request(&self) -> Result<(), Reason> {
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

    /// Takes bytes out of the budget, and returns until when the transfer that moved them must wait.
    ///
    /// # Errors
    /// [`Reason::Budget`].
    pub fn bytes(&self, bytes: usize) -> Result<Option<Instant>, Reason> {
        if self.budget.bytes.is_some() {
            let mut spent = self.spent.lock();
            spent.renew(&self.budget, Instant::now());
            spent.bytes = spent.bytes.saturating_add(bytes as u64);
            if let Some(limit) = self.budget.bytes.filter(|&limit| spent.bytes > limit) {
                return Err(Reason::Budget { of: "bytes", limit });
            }
        }
        let Some(bandwidth) = &self.bandwidth else {
            return Ok(None);
        };
        let now = Instant::now();
        let wait = bandwidth.lock().take(bytes as u64, now.into_std());
        Ok((!wait.is_zero()).then(|| now + wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::EgressLimits;

    fn quota(spent: &Arc<Mutex<Spent>>, change: impl FnOnce(&mut EgressLimits)) -> Quota {
        let mut limits = EgressLimits::default();
        change(&mut limits);
        Quota::new(
            spent.clone(),
            limits.budget,
            limits.requests_per_second,
            limits.bytes_per_second,
        )
    }

    #[test]
    fn budget_of_requests_that_is_spent_refuses_and_outlives_a_reload() {
        let spent = Arc::default();
        let limit = |limits: &mut EgressLimits| limits.budget.requests = Some(2);
        let first = quota(&spent, limit);
        assert!(first.request().is_ok());
        assert!(first.request().is_ok());
        let refused = Err(Reason::Budget {
            of: "requests",
            limit: 2,
        });
        assert_eq!(first.request(), refused);
        assert_eq!(quota(&spent, limit).request(), refused);
        assert!(quota(&spent, |_| ()).request().is_ok());
    }

    #[test]
    fn budget_of_bytes_that_is_spent_refuses_more_bytes_and_requests() {
        let quota = quota(&Arc::default(), |limits| limits.budget.bytes = Some(100));
        assert_eq!(quota.bytes(100), Ok(None));
        let refused = Reason::Budget {
            of: "bytes",
            limit: 100,
        };
        assert_eq!(quota.bytes(1), Err(refused.clone()));
        assert_eq!(quota.request(), Err(refused));
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
        let quota = quota(&Arc::default(), |limits| {
            limits.requests_per_second = NonZeroU32::new(3);
        });
        let allowed = (0..10).filter(|_| quota.call().is_ok()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn bandwidth_makes_the_mover_wait_beyond_a_quarter_second() {
        let quota = quota(&Arc::default(), |limits| {
            limits.bytes_per_second = NonZeroU32::new(1000);
        });
        let begin = Instant::now();
        assert_eq!(quota.bytes(250), Ok(None));
        let until = quota.bytes(5000).unwrap().unwrap();
        let wait = until.duration_since(begin).as_secs_f64();
        assert!((5.0..6.0).contains(&wait), "{wait} s");
    }
}
