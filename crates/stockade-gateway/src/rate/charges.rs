//! What requests count against, and what they take.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use stockade_auth::Granted;
use stockade_http::RequestAccount;
use stockade_limits::{
    Allowance, CounterId, Counters, FieldText, Left, Now, ShownLimit, Window, push_policy,
    push_state,
};

use super::{Limit, LimitExceeded, LimitedRequest, RateLimitFields, RouteLimits, Unit};
use crate::credential::Caller;

/// What requests count against that differ in nothing that counts.
#[derive(Debug)]
pub(crate) struct Charges {
    counters: Arc<Counters>,
    all: Vec<Charge>,
    /// CPU time of the site is divided among its requests, these included.
    of_cpu: bool,
    /// `RateLimit-Policy`; none if there is nothing to show.
    policy: Option<HeaderValue>,
    /// The month that `policy` is right for, where a window of it is a month: months differ in length.
    month: Option<u64>,
}

/// One allowance, and its counter.
#[derive(Debug)]
pub(super) struct Charge {
    limit: Arc<Limit>,
    allowance: Allowance,
    counter: CounterId,
}

impl Charge {
    pub(super) fn new(limit: &Arc<Limit>, allowance: Allowance, counter: CounterId) -> Self {
        Self {
            limit: Arc::clone(limit),
            allowance,
            counter,
        }
    }

    /// Units that a request takes at its beginning. Others are counted while they are used; something of them must be
    /// left.
    fn of_request(&self) -> u64 {
        u64::from(self.limit.unit == Unit::Requests)
    }

    fn push_left(&self, state: &mut FieldText, left: Left) {
        if !self.limit.of_all {
            push_state(state, &self.limit.name, self.shown(left.units), left.reset);
        }
    }

    /// Units as clients are shown them.
    fn shown(&self, units: u64) -> u64 {
        match self.limit.unit {
            Unit::Cpu => units / 1000,
            _ => units,
        }
    }
}

impl Charges {
    pub(super) fn new(counters: &Arc<Counters>, all: Vec<Charge>, of_cpu: bool, now: Now) -> Self {
        let is_monthly = |charge: &Charge| {
            let quota = charge.allowance;
            matches!(quota, Allowance::Quota { window, .. } if window == Window::Month)
        };
        let month = all.iter().any(is_monthly);
        let mut policy = FieldText::new();
        for charge in all.iter().filter(|charge| !charge.limit.of_all) {
            let shown = ShownLimit {
                // Names of headers and claims and words of this crate: nothing in them is to be escaped.
                name: &charge.limit.name,
                quota_unit: charge.limit.unit.quota_unit(),
                quota: charge.shown(charge.allowance.units().get()),
                window: charge.allowance.period(now),
                left: 0,
                reset: Duration::ZERO,
            };
            push_policy(&mut policy, &shown);
        }
        let policy = (!policy.is_empty()).then(|| HeaderValue::from_bytes(&policy).ok());
        Self {
            counters: Arc::clone(counters),
            all,
            of_cpu,
            policy: policy.flatten(),
            month: month.then(|| Window::Month.end(now.seconds)),
        }
    }

    /// Whether requests with it need none of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.all.is_empty() && !self.of_cpu
    }

    /// Whether what it says of windows is right at a time.
    fn is_right(&self, now: Now) -> bool {
        let is = |end| Window::Month.end(now.seconds) == end;
        self.month.is_none_or(is)
    }

    /// Takes one request, and checks that something is left of what is counted while it is used. A request that is
    /// refused takes nothing.
    pub(super) fn take_request(&self, now: Now) -> Result<Option<RateLimitFields>, LimitExceeded> {
        let mut state = FieldText::new();
        for (at, charge) in self.all.iter().enumerate() {
            let units = charge.of_request();
            match self
                .counters
                .try_take(charge.counter, &charge.allowance, units, now)
            {
                Ok(left) => charge.push_left(&mut state, left),
                Err(wait) => return Err(self.refuse((at, charge), wait, now)),
            }
        }
        Ok(self.fields(&state))
    }

    /// Gives back what a request has taken that the allowance at `refused` has nothing left for, and says which of all
    /// allowances it has to wait for longest.
    fn refuse(
        &self,
        (refused, charge): (usize, &Charge),
        wait: Duration,
        now: Now,
    ) -> LimitExceeded {
        let mut state = FieldText::new();
        let mut longest = (charge, wait);
        for (at, charge) in self.all.iter().enumerate() {
            let (counter, allowance) = (charge.counter, &charge.allowance);
            let units = charge.of_request();
            // Those behind the refused one are tried, too: the client has to wait for them.
            let tried = match at.cmp(&refused) {
                Ordering::Less => Ok(()),
                Ordering::Equal => Err(wait),
                Ordering::Greater => {
                    let taken = self.counters.try_take(counter, allowance, units, now);
                    taken.map(|_| ())
                }
            };
            let left = tried.map(|()| {
                if units > 0 {
                    self.counters.give_back(counter, allowance, units, now);
                }
                self.counters.left(counter, allowance, now)
            });
            if let Err(wait) = left
                && wait > longest.1
            {
                longest = (charge, wait);
            }
            let left = left.unwrap_or_else(|wait| Left {
                units: 0,
                reset: wait,
            });
            charge.push_left(&mut state, left);
        }
        let (charge, wait) = longest;
        LimitExceeded {
            limit: Arc::clone(&charge.limit),
            amount: charge.allowance.units().get(),
            period: charge.allowance.period(now),
            wait,
            fields: self.fields(&state),
        }
    }

    fn fields(&self, state: &FieldText) -> Option<RateLimitFields> {
        Some(RateLimitFields {
            policy: self.policy.clone()?,
            state: HeaderValue::from_bytes(state).ok()?,
        })
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
            let (counter, allowance) = (charge.counter, &charge.allowance);
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
            && last.charges.is_right(request.now)
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
