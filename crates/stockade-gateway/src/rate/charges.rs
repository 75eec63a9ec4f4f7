//! What requests count against, and what they take.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_auth::Granted;
use stockade_http::RequestAccount;
use stockade_limits::{CounterId, Counters, Left, Now, ShownLimits, Standing};

use super::limit::Limit;
use super::stated::{RateLimitFields, Stated};
use super::{LimitExceeded, LimitedRequest, RouteLimits, Unit};
use crate::credential::Caller;

/// What requests count against that differ in nothing that counts.
#[derive(Debug)]
pub(crate) struct Charges {
    counters: Arc<Counters>,
    all: Vec<Charge>,
    /// CPU time of the site is divided among its requests, these included.
    of_cpu: bool,
    shown: ShownLimits,
}

/// One limit, and its counter.
#[derive(Debug)]
pub(super) struct Charge {
    limit: Arc<Limit>,
    counter: CounterId,
}

impl Charge {
    pub(super) fn new(limit: Arc<Limit>, counter: CounterId) -> Self {
        Self { limit, counter }
    }

    /// Takes what a request needs of it at its beginning.
    fn try_take(&self, counters: &Counters, now: Now) -> Result<Left, Duration> {
        let limit = &self.limit;
        counters.try_take(self.counter, &limit.allowance, limit.of_request(), now)
    }

    fn standing(&self, outcome: Result<Left, Duration>) -> Standing {
        let most = self.limit.most;
        Standing { outcome, most }
    }
}

impl Charges {
    pub(super) fn new(
        counters: &Arc<Counters>,
        all: Vec<Charge>,
        of_cpu: bool,
        shown: ShownLimits,
    ) -> Self {
        Self {
            counters: Arc::clone(counters),
            all,
            of_cpu,
            shown,
        }
    }

    /// Whether requests with it need none of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.all.is_empty() && !self.of_cpu
    }

    /// Takes one request, and checks that something is left of what is counted while it is used. A request that is
    /// refused takes nothing.
    pub(super) fn take_request(&self, now: Now) -> Result<Option<RateLimitFields>, LimitExceeded> {
        let mut stated = Stated::new(self.shown);
        for (at, charge) in self.all.iter().enumerate() {
            match charge.try_take(&self.counters, now) {
                Ok(left) => stated.add(&charge.limit, charge.standing(Ok(left))),
                Err(wait) => return Err(self.refuse((at, charge), wait, now)),
            }
        }
        Ok(stated.fields(now))
    }

    /// Gives back what a request has taken that the limit at `refused` has nothing left for, and says which of all
    /// limits it has to wait for longest.
    fn refuse(
        &self,
        (refused, charge): (usize, &Charge),
        wait: Duration,
        now: Now,
    ) -> LimitExceeded {
        let mut stated = Stated::new(self.shown);
        let mut longest = (charge, wait);
        for (at, charge) in self.all.iter().enumerate() {
            let (counter, allowance) = (charge.counter, &charge.limit.allowance);
            let units = charge.limit.of_request();
            // Those behind the refused one are tried, too: the client has to wait for them.
            let tried = match at.cmp(&refused) {
                Ordering::Less => Ok(()),
                Ordering::Equal => Err(wait),
                Ordering::Greater => charge.try_take(&self.counters, now).map(|_| ()),
            };
            let outcome = tried.map(|()| {
                if units > 0 {
                    self.counters.give_back(counter, allowance, units, now);
                }
                self.counters.left(counter, allowance, now)
            });
            if let Err(wait) = outcome
                && wait > longest.1
            {
                longest = (charge, wait);
            }
            stated.add(&charge.limit, charge.standing(outcome));
        }
        let (charge, wait) = longest;
        LimitExceeded {
            limit: Arc::clone(&charge.limit),
            period: charge.limit.allowance.period(now),
            wait,
            fields: stated.fields(now),
        }
    }
}

impl Charges {
    /// Takes units that are used. Returns how long the client must wait before it uses more; with no units, whether
    /// it must wait now.
    pub(crate) fn used(&self, unit: Unit, units: u64, now: Now) -> Duration {
        self.use_of(units, now, |limit| limit.unit == unit)
    }

    fn use_of(&self, units: u64, now: Now, counts: impl Fn(&Limit) -> bool) -> Duration {
        let mut longest = Duration::ZERO;
        for charge in self.all.iter().filter(|charge| counts(&charge.limit)) {
            let (counter, allowance) = (charge.counter, &charge.limit.allowance);
            let wait = self.counters.take(counter, allowance, units, now);
            longest = longest.max(wait);
        }
        longest
    }

    /// Whether anything is limited by this unit.
    pub(crate) fn counts(&self, unit: Unit) -> bool {
        self.all.iter().any(|charge| charge.limit.unit == unit)
    }

    /// Where the CPU time of the request is charged; none where no rule of its route limits CPU time.
    pub(crate) fn account(self: &Arc<Self>) -> Option<Arc<dyn RequestAccount>> {
        self.of_cpu.then(|| Arc::clone(self) as _)
    }
}

impl RequestAccount for Charges {
    fn used(&self, time: Duration) {
        let time = whole_microseconds(time);
        if time > 0 && self.counts(Unit::Cpu) {
            self.use_of(time, Now::read(), |limit| limit.unit == Unit::Cpu);
        }
    }

    fn idle(&self, time: Duration) {
        let time = whole_microseconds(time);
        if time > 0 && self.counts(Unit::Cpu) {
            self.use_of(time, Now::read(), |limit| {
                limit.unit == Unit::Cpu && limit.of_all
            });
        }
    }
}

fn whole_microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// What the last request of a connection counted against: for the next one that is alike it is not put together again.
#[derive(Debug, Default)]
pub(crate) struct LastCharges(Mutex<Option<Remembered>>);

#[derive(Debug)]
struct Remembered {
    /// For what they were put together.
    of: Weak<RouteLimits>,
    client: IpAddr,
    key: Option<Arc<Granted>>,
    applying: u64,
    charges: Arc<Charges>,
}

impl LastCharges {
    /// Those of the last request if this one is alike, else new ones.
    pub(super) fn of(
        &self,
        limits: &Arc<RouteLimits>,
        request: LimitedRequest<'_>,
        make: impl FnOnce() -> Charges,
    ) -> Arc<Charges> {
        let Some(applying) = limits.applying(request) else {
            return Arc::new(make());
        };
        let key = request.caller.and_then(Caller::granted);
        let mut last = self.0.lock();
        if let Some(last) = &*last
            && Weak::as_ptr(&last.of) == Arc::as_ptr(limits)
            && last.client == request.client
            && last.key.as_ref().map(Arc::as_ptr) == key.map(Arc::as_ptr)
            && last.applying == applying
        {
            return Arc::clone(&last.charges);
        }
        let charges = Arc::new(make());
        *last = Some(Remembered {
            of: Arc::downgrade(limits),
            client: request.client,
            key: key.cloned(),
            applying,
            charges: Arc::clone(&charges),
        });
        charges
    }
}
