//! A rate over time, with a second's worth at once.

use std::time::{Duration, Instant};

/// The most that may come at once.
const BURST: Duration = Duration::from_secs(1);

/// Generic cell rate algorithm (ITU-T I.371): `due` is when all that was taken would have come at
/// the even rate. It may be ahead of the clock by the burst.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Option<Instant>,
}

/// The rates: what a unit costs in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) operations_per_second: u32,
    pub(crate) bytes_per_second: u64,
}

impl Rates {
    fn time(self, operations: u32, bytes: usize) -> Duration {
        let operations = f64::from(operations) / f64::from(self.operations_per_second.max(1));
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact bytes")]
        let bytes = bytes as f64 / self.bytes_per_second.max(1) as f64;
        Duration::try_from_secs_f64(operations.max(bytes)).unwrap_or(Duration::MAX)
    }
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { due: None }
    }

    /// From when on the next one may be taken; `None`: at once.
    pub(crate) fn not_before(&self, now: Instant) -> Option<Instant> {
        let ready = self.due?.checked_sub(BURST)?;
        (ready > now).then_some(ready)
    }

    /// Takes one, whose time must have come.
    pub(crate) fn take(&mut self, rates: Rates, operations: u32, bytes: usize, now: Instant) {
        let from = self.due.map_or(now, |due| due.max(now));
        // A cost beyond all clocks waits a day; no limit that anyone sets comes near.
        let day = Duration::from_secs(24 * 60 * 60);
        self.due = from.checked_add(rates.time(operations, bytes).min(day));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates {
        operations_per_second: 10,
        bytes_per_second: 1000,
    };

    #[test]
    fn pace_beyond_the_burst_waits() {
        let start = Instant::now();
        let mut pace = Pace::new();
        let mut taken = 0;
        while pace.not_before(start).is_none() {
            pace.take(RATES, 1, 1, start);
            taken += 1;
        }
        assert_eq!(taken, 11);
        assert!(
            pace.not_before(start + Duration::from_millis(100))
                .is_none()
        );
    }

    #[test]
    fn pace_counts_the_dearer_of_operations_and_bytes() {
        let start = Instant::now();
        let mut pace = Pace::new();
        pace.take(RATES, 1, 2500, start);
        let ready = pace.not_before(start).unwrap();
        assert_eq!(ready - start, Duration::from_millis(1500));
    }

    #[test]
    fn pace_with_hostile_rates_does_not_overflow() {
        let start = Instant::now();
        let mut pace = Pace::new();
        let none = Rates {
            operations_per_second: 0,
            bytes_per_second: 0,
        };
        pace.take(none, u32::MAX, usize::MAX, start);
        pace.take(none, u32::MAX, usize::MAX, start);
        assert!(pace.not_before(start).is_some());
    }
}
