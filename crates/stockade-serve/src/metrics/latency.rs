//! Durations of requests, counted by size: enough for percentiles of the last second.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Counts for each doubling of a duration.
const PER_DOUBLING: u32 = 4;

/// Doublings from a microsecond to more than two minutes.
const DOUBLINGS: u32 = 27;

const COUNTS: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// Counts durations. Adding one costs an atomic addition; a percentile is exact to a fifth.
pub(crate) struct Latencies([AtomicU32; COUNTS]);

/// Durations that were taken out of [`Latencies`].
#[derive(Clone)]
pub(crate) struct Taken([u32; COUNTS]);

impl Default for Latencies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Default for Taken {
    fn default() -> Self {
        Self([0; COUNTS])
    }
}

fn place(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    let doubling = micros.ilog2();
    // The two bits below the highest one.
    let part = if doubling < 2 {
        (micros << (2 - doubling)) & 3
    } else {
        (micros >> (doubling - 2)) & 3
    };
    ((doubling * PER_DOUBLING + part as u32) as usize).min(COUNTS - 1)
}

/// The middle of a place, in milliseconds.
fn middle(place: usize) -> f64 {
    let (doubling, part) = (place as u32 / PER_DOUBLING, place as u32 % PER_DOUBLING);
    let low = f64::from(PER_DOUBLING + part) / f64::from(PER_DOUBLING);
    let micros = (low + 0.5 / f64::from(PER_DOUBLING)) * 2_f64.powi(doubling as i32);
    micros / 1e3
}

impl Latencies {
    pub(crate) fn add(&self, duration: Duration) {
        self.0[place(duration)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what was counted, and begins at zero.
    pub(crate) fn take(&self) -> Taken {
        let mut taken = Taken::default();
        for (count, taken) in self.0.iter().zip(&mut taken.0) {
            if count.load(Ordering::Relaxed) > 0 {
                *taken = count.swap(0, Ordering::Relaxed);
            }
        }
        taken
    }
}

impl Taken {
    pub(crate) fn merge(&mut self, other: &Self) {
        for (all, more) in self.0.iter_mut().zip(&other.0) {
            *all = all.saturating_add(*more);
        }
    }

    /// The duration that this part of all durations, from 0 to 1, does not exceed, in milliseconds. None without any.
    pub(crate) fn percentile(&self, part: f64) -> Option<f64> {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        if all == 0 {
            return None;
        }
        let wanted = (part * all as f64).ceil() as u64;
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted.max(1)
        });
        found.map(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_near_the_duration() {
        for micros in [1, 2, 3, 7, 10, 99, 1000, 12_345, 1_000_000, 60_000_000] {
            let latencies = Latencies::default();
            latencies.add(Duration::from_micros(micros));
            let found = latencies.take().percentile(0.5).unwrap() * 1e3;
            let wrong = (found - micros as f64).abs() / micros as f64;
            assert!(wrong < 0.25, "{micros}: {found}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_taken() {
        let latencies = Latencies::default();
        for millis in 1..=100 {
            latencies.add(Duration::from_millis(millis));
        }
        latencies.add(Duration::MAX);
        latencies.add(Duration::ZERO);
        let mut taken = latencies.take();
        let near = |part: f64, expected: f64| {
            let found = taken.percentile(part).unwrap();
            assert!(
                (found - expected).abs() / expected < 0.25,
                "{part}: {found}"
            );
        };
        near(0.5, 50.0);
        near(0.98, 98.0);
        assert!(latencies.take().percentile(0.5).is_none());
        taken.merge(&taken.clone());
        assert!(taken.percentile(1.0).unwrap() > 1e5);
    }
}
