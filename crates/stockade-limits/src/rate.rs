//! Rates over time: the one rate limiter of the program, and the limiter of lines of logs and consoles.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Units in a time, with a burst: the generic cell rate algorithm (ITU-T I.371).
///
/// A unit is whatever the caller counts: a request, a byte, a frame. A rate never reads a clock, and counts to the
/// nanosecond and the fraction of a unit, so that it does not drift. What was taken is a [`RateState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    units: NonZeroU64,
    per: Duration,
    burst: Duration,
}

/// What was taken of a rate; the default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateState {
    /// Theoretical arrival time: when all units taken so far would have arrived at the exact rate.
    due: Option<Instant>,
    /// What the units taken so far cost beyond whole nanoseconds: nanoseconds times the rate's units.
    fraction: u64,
}

impl Rate {
    /// How far ahead of the clock units may be taken on credit.
    pub const MAX_CREDIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// The longest burst. It is shorter than the credit: otherwise nothing would ever be refused.
    pub const MAX_BURST: Duration = Duration::from_secs(6 * 24 * 60 * 60);

    /// Units that come in each time `per`. `burst` is the time whose units may be taken at once, at most
    /// [`Self::MAX_BURST`].
    #[must_use]
    pub const fn new(units: NonZeroU64, per: Duration, burst: Duration) -> Self {
        let longest = Self::MAX_BURST.as_nanos();
        let burst = if burst.as_nanos() > longest {
            Self::MAX_BURST
        } else {
            burst
        };
        Self { units, per, burst }
    }

    /// A rate of which `at_once` units may be taken at once.
    #[must_use]
    pub fn with_burst_of(units: NonZeroU64, per: Duration, at_once: NonZeroU64) -> Self {
        // Rounded up: a nanosecond less would be the burst of a unit less.
        let nanos = per.as_nanos().saturating_mul(at_once.get().into());
        let nanos = nanos.div_ceil(units.get().into());
        let burst = u64::try_from(nanos).map_or(Self::MAX_BURST, Duration::from_nanos);
        Self::new(units, per, burst)
    }

    /// Units that come in each time [`Self::per`].
    #[must_use]
    pub const fn units(&self) -> NonZeroU64 {
        self.units
    }

    /// The time in which [`Self::units`] come.
    #[must_use]
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// Units that may be taken at once.
    #[must_use]
    pub fn at_once(&self) -> u64 {
        self.in_time(self.burst)
    }

    /// Units that come in a time.
    fn in_time(&self, time: Duration) -> u64 {
        let (time, units, per) = (nanos(time), self.units.get(), nanos(self.per).max(1));
        // Most products have 64 bits, whose division takes a fraction of the time.
        if let Some(units) = time.checked_mul(units) {
            return units / per;
        }
        let units = u128::from(time) * u128::from(units);
        u64::try_from(units / u128::from(per)).unwrap_or(u64::MAX)
    }

    /// Takes units if they conform to the rate; otherwise takes nothing and returns how long the caller must
    /// wait before the same units conform.
    ///
    /// Units that cost more than the burst never conform: take those with [`Self::take`].
    ///
    /// # Errors
    /// The time to wait, which is what a `Retry-After` field says.
    pub fn try_take(
        &self,
        state: &mut RateState,
        units: u64,
        now: Instant,
    ) -> Result<(), Duration> {
        self.try_take_ahead(state, units, now).map(|_| ())
    }

    /// [`Self::try_take`]. Returns how far ahead of the clock what is taken is then.
    fn try_take_ahead(
        &self,
        state: &mut RateState,
        units: u64,
        now: Instant,
    ) -> Result<Duration, Duration> {
        let (after, ahead) = self.after(*state, units, now);
        if ahead > self.burst {
            return Err(ahead - self.burst);
        }
        *state = after;
        Ok(ahead)
    }

    /// [`Self::try_take`]. Returns the units that may be taken now, and when all of the burst is there again.
    ///
    /// # Errors
    /// As [`Self::try_take`].
    pub fn try_take_left(
        &self,
        state: &mut RateState,
        units: u64,
        now: Instant,
    ) -> Result<(u64, Duration), Duration> {
        let ahead = self.try_take_ahead(state, units, now)?;
        Ok((self.in_time(self.burst.saturating_sub(ahead)), ahead))
    }

    /// Takes units in any case, on credit if need be, and returns how long the caller must wait before it uses
    /// them: zero within the burst.
    pub fn take(&self, state: &mut RateState, units: u64, now: Instant) -> Duration {
        let (after, ahead) = self.after(*state, units, now);
        *state = after;
        ahead.saturating_sub(self.burst)
    }

    /// Gives back units that were taken and not used.
    pub fn give_back(&self, state: &mut RateState, units: u64) {
        let nanos = self.per.as_nanos().saturating_mul(units.into()) / u128::from(self.units.get());
        let time = u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos);
        state.due = state.due.and_then(|due| due.checked_sub(time));
    }

    /// How long the rate is exceeded by what was taken so far: zero if a unit may be taken now.
    #[must_use]
    pub fn wait(&self, state: &RateState, now: Instant) -> Duration {
        state.ahead(now).saturating_sub(self.burst)
    }

    /// Units that may be taken now.
    #[must_use]
    pub fn left(&self, state: &RateState, now: Instant) -> u64 {
        self.in_time(self.burst.saturating_sub(state.ahead(now)))
    }

    /// What is taken once these units are, and how far ahead of the clock that is.
    fn after(&self, state: RateState, units: u64, now: Instant) -> (RateState, Duration) {
        let rate = self.units.get();
        // A rate that was idle starts at the clock: what was not used then is the burst, and no more.
        let due = state.due.and_then(|due| due.checked_duration_since(now));
        let (before, fraction) = due.map_or((0, 0), |ahead| (nanos(ahead), state.fraction));
        let per = nanos(self.per);
        let cost = units.checked_mul(per);
        let (cost, fraction) = match cost.and_then(|cost| cost.checked_add(fraction)) {
            Some(cost) => (cost / rate, cost % rate),
            None => {
                let cost = u128::from(units) * u128::from(per) + u128::from(fraction);
                let rate = u128::from(rate);
                let whole = u64::try_from(cost / rate).unwrap_or(u64::MAX);
                // The remainder of a division by a 64-bit number has 64 bits.
                (whole, u64::try_from(cost % rate).unwrap_or(0))
            }
        };
        let most = before.max(nanos(Self::MAX_CREDIT));
        let ahead = Duration::from_nanos(before.saturating_add(cost).min(most));
        let due = now.checked_add(ahead).or(state.due);
        (RateState { due, fraction }, ahead)
    }
}

/// A time in nanoseconds; of more than 584 years as many as there can be.
fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

impl RateState {
    /// How far what was taken is ahead of the clock; zero: the rate is as if nothing was ever taken.
    #[must_use]
    pub fn ahead(&self, now: Instant) -> Duration {
        self.due
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }
}

/// A [`Rate`] of units per second and what was taken of it.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    rate: Rate,
    state: RateState,
}

impl RateLimiter {
    /// A limiter that nothing was taken from. `burst` is the time whose units may be taken at once.
    #[must_use]
    pub const fn new(per_second: NonZeroU64, burst: Duration) -> Self {
        Self {
            rate: Rate::new(per_second, Duration::from_secs(1), burst),
            state: RateState {
                due: None,
                fraction: 0,
            },
        }
    }

    /// [`Rate::try_take`].
    ///
    /// # Errors
    /// The time to wait, which is what a `Retry-After` field says.
    pub fn try_take(&mut self, units: u64, now: Instant) -> Result<(), Duration> {
        self.rate.try_take(&mut self.state, units, now)
    }

    /// [`Rate::take`].
    pub fn take(&mut self, units: u64, now: Instant) -> Duration {
        self.rate.take(&mut self.state, units, now)
    }

    /// [`Rate::wait`].
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        self.rate.wait(&self.state, now)
    }
}

/// Operations and bytes per second; `None`: as many as come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoRates {
    /// Operations per second.
    pub operations: Option<NonZeroU64>,
    /// Bytes per second.
    pub bytes: Option<NonZeroU64>,
}

impl IoRates {
    /// The time that operations and their bytes take together at these rates, in nanoseconds: as long as the
    /// slower of the two rates demands.
    #[must_use]
    pub fn nanos(self, operations: u64, bytes: u64) -> u64 {
        let one = |units: u64, rate: Option<NonZeroU64>| {
            rate.map_or(0, |rate| {
                (u128::from(units) * NANOS_PER_SECOND).div_ceil(u128::from(rate.get()))
            })
        };
        let nanos = one(operations, self.operations).max(one(bytes, self.bytes));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Limits operations and their bytes each by its own rate, with a second's worth of each at once.
#[derive(Clone, Debug)]
pub struct IoLimiter {
    operations: Option<RateLimiter>,
    bytes: Option<RateLimiter>,
}

impl IoLimiter {
    const BURST: Duration = Duration::from_secs(1);

    /// A limiter that nothing was taken from.
    #[must_use]
    pub fn new(rates: IoRates) -> Self {
        let limiter = |rate| RateLimiter::new(rate, Self::BURST);
        Self {
            operations: rates.operations.map(limiter),
            bytes: rates.bytes.map(limiter),
        }
    }

    /// Takes operations and their bytes, on credit if need be, and returns how long the caller must wait before
    /// it carries them out: as long as the slower of the two rates demands.
    pub fn take(&mut self, operations: u64, bytes: u64, now: Instant) -> Duration {
        let take = |limiter: &mut Option<RateLimiter>, units| {
            let limiter = limiter.as_mut();
            limiter.map_or(Duration::ZERO, |limiter| limiter.take(units, now))
        };
        take(&mut self.operations, operations).max(take(&mut self.bytes, bytes))
    }
}

/// Whether a line may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may, and this many lines were dropped since the last one that might.
    Admitted {
        /// Lines.
        dropped: u64,
    },
    /// It may not.
    Dropped {
        /// It is the first one of its second.
        first: bool,
    },
}

/// Lines and their bytes that may be written each second; lines beyond that are counted and dropped.
#[derive(Debug)]
pub struct LineLimiter {
    since: Instant,
    lines: u32,
    bytes: usize,
    dropped: u64,
    /// A line of this second was dropped.
    over: bool,
}

impl LineLimiter {
    /// A limiter whose first second begins at `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: 0,
            bytes: 0,
            dropped: 0,
            over: false,
        }
    }

    /// Whether a line may be written of which there may be `per_second`: `Some` with the number of lines that were
    /// dropped since the last one.
    pub fn admit(&mut self, per_second: u32, now: Instant) -> Option<u64> {
        match self.admit_bytes(0, per_second, usize::MAX, now) {
            Admission::Admitted { dropped } => Some(dropped),
            Admission::Dropped { .. } => None,
        }
    }

    /// Whether a line of this many bytes may be written, where `max_lines` lines and `max_bytes` bytes may be in each
    /// second.
    pub fn admit_bytes(
        &mut self,
        bytes: usize,
        max_lines: u32,
        max_bytes: usize,
        now: Instant,
    ) -> Admission {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self {
                dropped: self.dropped,
                ..Self::new(now)
            };
        }
        let bytes = self.bytes.saturating_add(bytes);
        if self.lines >= max_lines || bytes > max_bytes {
            self.dropped = self.dropped.saturating_add(1);
            let first = !std::mem::replace(&mut self.over, true);
            return Admission::Dropped { first };
        }
        self.lines += 1;
        self.bytes = bytes;
        let dropped = self.take_dropped();
        Admission::Admitted { dropped }
    }

    /// Lines that were dropped and that no admitted line has reported.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn limiter(per_second: u64, burst: Duration) -> RateLimiter {
        RateLimiter::new(NonZeroU64::new(per_second).unwrap(), burst)
    }

    #[test]
    fn rate_gives_its_burst_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut rate = limiter(3, SECOND);
        for _ in 0..3 {
            assert_eq!(rate.try_take(1, start), Ok(()));
        }
        let wait = rate.try_take(1, start).unwrap_err();
        assert!(wait.abs_diff(SECOND / 3) < MS, "{wait:?}");
        assert!(rate.try_take(1, start + wait - MS).is_err());
        assert_eq!(rate.try_take(1, start + wait), Ok(()));
        assert!(rate.try_take(1, start + wait).is_err());
    }

    #[test]
    fn rate_after_a_long_rest_gives_one_burst() {
        let start = Instant::now();
        let mut rate = limiter(100, SECOND);
        assert_eq!(rate.try_take(100, start), Ok(()));
        let later = start + 100 * SECOND;
        assert_eq!(rate.try_take(100, later), Ok(()));
        assert!(rate.try_take(1, later).is_err());
    }

    #[test]
    fn units_of_an_idle_time_are_there_up_to_the_burst() {
        let start = Instant::now();
        let mut rate = limiter(1000, SECOND / 4);
        rate.take(1000, start);
        let later = start + 10 * SECOND;
        assert_eq!(rate.take(250, later), Duration::ZERO);
        assert!(!rate.take(250, later).is_zero());
    }

    #[test]
    fn units_on_credit_wait_until_they_would_have_come() {
        let start = Instant::now();
        let mut rate = limiter(1 << 20, SECOND);
        assert_eq!(rate.take(10 << 20, start), 9 * SECOND);
        assert_eq!(rate.take(1 << 19, start + 9 * SECOND), 500 * MS);
        assert_eq!(rate.wait(start + 9 * SECOND), 500 * MS);
    }

    #[test]
    fn fractions_of_a_nanosecond_add_up() {
        let start = Instant::now();
        let mut rate = limiter(1_000_000_000_000, SECOND);
        // 2 seconds' worth in pieces of 0.7 ns.
        for _ in 0..2_000_000 {
            rate.take(700, start);
        }
        assert_eq!(rate.take(2_000_000_000_000 - 1_400_000_000, start), SECOND);
    }

    #[test]
    fn a_rate_is_kept_over_time() {
        for per_second in [1030, 999_990, 1_000_010, 1 << 30, 1_000_000_000_000] {
            let start = Instant::now();
            let mut rate = limiter(per_second, SECOND);
            let mut now = start;
            for _ in 0..1000 {
                now += rate.take(per_second / 10, now);
            }
            // 100 seconds' worth, of which the first was the burst.
            let error = (now - start).abs_diff(99 * SECOND);
            assert!(error < 2 * MS, "{per_second}: {error:?}");
        }
    }

    #[test]
    fn credit_is_bounded_whatever_is_taken() {
        let start = Instant::now();
        let mut rate = limiter(1, Duration::ZERO);
        for _ in 0..20 {
            assert!(rate.take(u64::MAX, start) <= Rate::MAX_CREDIT);
        }
        assert!(rate.try_take(u64::MAX, start).is_err());
    }

    #[test]
    fn rate_of_an_hour_gives_its_burst_and_then_a_unit_in_time() {
        let start = Instant::now();
        let units = |n| NonZeroU64::new(n).unwrap();
        let hour = Duration::from_secs(3600);
        let rate = Rate::with_burst_of(units(60), hour, units(10));
        let mut state = RateState::default();
        assert_eq!(rate.at_once(), 10);
        for left in (0..10).rev() {
            assert_eq!(rate.try_take(&mut state, 1, start), Ok(()));
            assert_eq!(rate.left(&state, start), left);
        }
        assert_eq!(rate.try_take(&mut state, 1, start), Err(60 * SECOND));
        rate.give_back(&mut state, 1);
        assert_eq!(rate.try_take(&mut state, 1, start), Ok(()));
        assert_eq!(rate.left(&state, start + hour), 10);
        assert!(state.ahead(start + hour).is_zero());
    }

    #[test]
    fn burst_of_no_whole_nanoseconds_has_all_of_its_units() {
        let start = Instant::now();
        let units = |n| NonZeroU64::new(n).unwrap();
        for (in_second, burst) in [(3, 1), (7, 3), (7, 7), (999, 1000), (1_000_003, 17)] {
            let rate = Rate::with_burst_of(units(in_second), SECOND, units(burst));
            let mut state = RateState::default();
            assert_eq!(rate.at_once(), burst, "{rate:?}");
            for left in (0..burst).rev() {
                assert_eq!(rate.left(&state, start), left + 1, "{rate:?}");
                assert_eq!(rate.try_take(&mut state, 1, start), Ok(()), "{rate:?}");
            }
            assert_eq!(rate.left(&state, start), 0, "{rate:?}");
            assert!(rate.try_take(&mut state, 1, start).is_err(), "{rate:?}");
        }
    }

    #[test]
    fn burst_beyond_the_credit_still_ends() {
        let start = Instant::now();
        let most = NonZeroU64::MAX;
        for rate in [
            Rate::with_burst_of(NonZeroU64::MIN, Duration::from_secs(3600), most),
            Rate::new(NonZeroU64::MIN, SECOND, Duration::MAX),
        ] {
            let mut state = RateState::default();
            rate.take(&mut state, u64::MAX, start);
            assert!(rate.try_take(&mut state, 1, start).is_err());
        }
    }

    #[test]
    fn operations_and_bytes_wait_for_the_slower_rate() {
        let start = Instant::now();
        let rates = IoRates {
            operations: NonZeroU64::new(1),
            bytes: NonZeroU64::new(1024),
        };
        let mut limiter = IoLimiter::new(rates);
        assert_eq!(limiter.take(1, 0, start), Duration::ZERO);
        assert_eq!(limiter.take(1, 4096, start), 3 * SECOND);
        assert_eq!(limiter.take(1, 0, start), 3 * SECOND);
    }

    #[test]
    fn operations_and_bytes_take_the_time_of_the_slower_rate() {
        let rates = IoRates {
            operations: NonZeroU64::new(10),
            bytes: NonZeroU64::new(1000),
        };
        assert_eq!(rates.nanos(1, 2500), 2_500_000_000);
        assert_eq!(rates.nanos(30, 2500), 3_000_000_000);
        assert_eq!(rates.nanos(u64::MAX, 0), u64::MAX);
        assert_eq!(IoRates::default().nanos(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let start = Instant::now();
        let mut lines = LineLimiter::new(start);
        let admitted = (0..1000)
            .filter(|_| lines.admit(20, start).is_some())
            .count();
        assert_eq!(admitted, 20);
        assert_eq!(lines.admit(20, start + SECOND), Some(980));
        assert_eq!(lines.admit(20, start + SECOND), Some(0));
    }

    #[test]
    fn lines_beyond_the_bytes_are_counted_and_the_first_of_a_second_is_marked() {
        let start = Instant::now();
        let mut lines = LineLimiter::new(start);
        for second in 0..2 {
            let now = start + second * SECOND;
            let admissions: Vec<_> = (0..10)
                .map(|_| lines.admit_bytes(30, 100, 90, now))
                .collect();
            let is_admitted = |one: &&Admission| matches!(one, Admission::Admitted { .. });
            assert_eq!(admissions.iter().filter(is_admitted).count(), 3);
            assert_eq!(admissions[3], Admission::Dropped { first: true });
            assert!(
                admissions[4..]
                    .iter()
                    .all(|one| *one == Admission::Dropped { first: false })
            );
            let before = if second == 0 { 0 } else { 7 };
            assert_eq!(admissions[0], Admission::Admitted { dropped: before });
        }
        assert_eq!(lines.take_dropped(), 7);
    }
}
