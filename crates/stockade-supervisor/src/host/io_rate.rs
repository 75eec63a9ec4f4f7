//! How much an isolate may ask of its host each second.
//!
//! Two token buckets (GCRA) hold one second's worth each. A message that finds too little in them is
//! charged all the same and waits until it would have found enough: the sender sleeps for that long,
//! and nothing is refused.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

/// The most cells a bucket gives out each second: a cell then takes at least 1 µs to come back, which
/// the limiter's whole nanoseconds state to 0.1 %.
const MOST_CELLS: u64 = 1_000_000;

/// What a bucket lends at most. The largest message at the lowest rate takes less than three days.
const MOST_DEBT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The rates of one isolate. May be used from any thread.
pub(crate) struct IoBudget {
    began: Instant,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    ops: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl IoBudget {
    /// Full buckets of these rates; `None` where nothing is limited.
    pub(crate) fn new(ops: Option<NonZeroU32>, bytes: Option<NonZeroU64>) -> Option<Self> {
        if ops.is_none() && bytes.is_none() {
            return None;
        }
        Some(Self {
            began: Instant::now(),
            buckets: Mutex::new(Buckets {
                ops: ops.map(|ops| Bucket::new(ops.into())),
                bytes: bytes.map(Bucket::new),
            }),
        })
    }

    /// Charges one message of this size; how long it has to wait before it may pass.
    pub(crate) fn take(&self, bytes: u64) -> Duration {
        self.take_at(self.began.elapsed(), bytes)
    }

    fn take_at(&self, now: Duration, bytes: u64) -> Duration {
        let mut buckets = self.buckets.lock();
        let charge = |bucket: Option<&mut Bucket>, units| {
            bucket.map_or(Duration::ZERO, |bucket| bucket.charge(now, units))
        };
        let Buckets { ops, bytes: volume } = &mut *buckets;
        charge(ops.as_mut(), 1).max(charge(volume.as_mut(), bytes))
    }
}

/// A bucket of cells, each of which stands for one unit or more.
struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Time, NoOpMiddleware<Nanos>>,
    time: Time,
    /// Cells of a full bucket.
    burst: NonZeroU32,
    units_per_cell: u64,
    /// Units taken that make no whole cell yet.
    rest: u64,
}

impl Bucket {
    fn new(units: NonZeroU64) -> Self {
        let units_per_cell = units.get().div_ceil(MOST_CELLS);
        let cells = u32::try_from(units.get() / units_per_cell).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let time = Time::default();
        Self {
            limiter: RateLimiter::direct_with_clock(Quota::per_second(burst), time.clone()),
            time,
            burst,
            units_per_cell,
            rest: 0,
        }
    }

    /// Takes cells, a full bucket at a time, each at the moment at which it is there.
    fn charge(&mut self, now: Duration, units: u64) -> Duration {
        let units = self.rest.saturating_add(units);
        self.rest = units % self.units_per_cell;
        let mut cells = units / self.units_per_cell;
        let mut wait = Duration::ZERO;
        while cells > 0 && wait < MOST_DEBT {
            let piece = u32::try_from(cells).unwrap_or(u32::MAX);
            let piece = NonZeroU32::new(piece).map_or(self.burst, |piece| piece.min(self.burst));
            self.time.set(now + wait);
            match self.limiter.check_n(piece) {
                Ok(Ok(())) => cells -= u64::from(piece.get()),
                Ok(Err(later)) => {
                    let more = later.wait_time_from(self.time.now());
                    wait += more.max(Duration::from_nanos(1));
                }
                // A piece is never larger than a full bucket.
                Err(_) => break,
            }
        }
        wait
    }
}

/// The moment at which a bucket is asked: now, or later, for what is charged in advance.
#[derive(Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn set(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Relaxed);
    }
}

impl Clock for Time {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn budget(ops: u32, bytes: u64) -> IoBudget {
        IoBudget::new(NonZeroU32::new(ops), NonZeroU64::new(bytes)).unwrap()
    }

    fn near(found: Duration, expected: Duration) {
        let error = found.abs_diff(expected);
        assert!(
            error <= expected / 500 + Duration::from_micros(2),
            "{found:?} is not {expected:?}"
        );
    }

    #[test]
    fn budget_without_rates_is_none() {
        assert!(IoBudget::new(None, None).is_none());
    }

    #[test]
    fn budget_of_ops_gives_a_second_at_once_and_then_its_rate() {
        let budget = budget(100, 0);
        for _ in 0..100 {
            assert_eq!(budget.take_at(Duration::ZERO, 1 << 30), Duration::ZERO);
        }
        near(budget.take_at(Duration::ZERO, 0), 10 * MS);
        near(budget.take_at(Duration::ZERO, 0), 20 * MS);
        // A sender that waits for that long finds one more every 10 ms.
        near(budget.take_at(20 * MS, 0), 10 * MS);
        // After a long rest there is one second's worth again, and no more.
        let later = Duration::from_secs(100);
        for _ in 0..100 {
            assert_eq!(budget.take_at(later, 0), Duration::ZERO);
        }
        near(budget.take_at(later, 0), 10 * MS);
    }

    #[test]
    fn budget_of_bytes_charges_a_large_message_as_several_seconds() {
        let budget = budget(0, 1 << 20);
        let wait = budget.take_at(Duration::ZERO, 10 << 20);
        near(wait, Duration::from_secs(9));
        near(budget.take_at(wait, 1 << 19), MS * 500);
    }

    #[test]
    fn budget_of_many_small_messages_is_charged_by_the_byte() {
        // A cell is 1000 bytes here.
        let rate = 1_000_000_000;
        let budget = budget(0, rate);
        let mut wait = Duration::ZERO;
        for _ in 0..rate / 100 * 2 {
            wait = budget.take_at(Duration::ZERO, 100);
        }
        near(wait, Duration::from_secs(1));
    }

    #[test]
    fn budget_rates_are_kept_over_time() {
        for rate in [1030, 999_990, 1_000_010, 1 << 30, 1_000_000_000_000] {
            let budget = budget(0, rate);
            let mut now = Duration::ZERO;
            for _ in 0..1000 {
                now += budget.take_at(now, rate / 10);
            }
            // 100 seconds' worth, of which the first was there.
            near(now, Duration::from_secs(99));
        }
    }

    #[test]
    fn budget_waits_for_the_slower_of_both_rates() {
        let budget = budget(1, 1024);
        assert_eq!(budget.take_at(Duration::ZERO, 0), Duration::ZERO);
        near(budget.take_at(Duration::ZERO, 4096), Duration::from_secs(3));
        near(budget.take_at(Duration::ZERO, 0), Duration::from_secs(2));
    }

    #[test]
    fn budget_largest_message_at_the_lowest_rate_passes_in_the_end() {
        let budget = budget(0, 1024);
        near(
            budget.take_at(Duration::ZERO, 192 << 20),
            Duration::from_secs((192 << 10) - 1),
        );
        for _ in 0..20 {
            let wait = budget.take_at(Duration::ZERO, u64::MAX);
            assert!(wait <= 2 * MOST_DEBT, "{wait:?}");
        }
    }
}
