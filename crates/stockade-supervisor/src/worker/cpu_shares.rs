//! The CPU time of a worker with several isolates, divided among them.
//!
//! The kernel counts for the whole worker. What each isolate's thread used is known from the worker alone, so it decides
//! how the time is divided and not how much it is: the shares add up to what the kernel counted.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct CpuShares(Mutex<Shares>);

#[derive(Default)]
struct Shares {
    /// Nanoseconds of the worker that are divided already.
    divided: u64,
    isolates: BTreeMap<u32, Share>,
}

#[derive(Default)]
struct Share {
    /// What the worker last reported of the isolate's thread, in nanoseconds of its life.
    reported: u64,
    /// What of that came since the last division.
    weight: u64,
    charged: u64,
}

impl CpuShares {
    /// The isolate takes part from now on.
    pub(super) fn add(&self, id: u32) {
        self.0.lock().isolates.entry(id).or_default();
    }

    /// The worker reports what an isolate's thread has used over its life.
    pub(super) fn report(&self, id: u32, cpu_ns: u64) {
        if let Some(share) = self.0.lock().isolates.get_mut(&id) {
            let more = cpu_ns.saturating_sub(share.reported);
            share.reported = share.reported.max(cpu_ns);
            share.weight = share.weight.saturating_add(more);
        }
    }

    /// Divides what the worker used since the last division, as far as anything was reported. What is used meanwhile
    /// waits for the next report. With `at_last`, it is divided in any case.
    pub(super) fn divide(&self, worker: Duration, at_last: bool) {
        let worker = u64::try_from(worker.as_nanos()).unwrap_or(u64::MAX);
        let mut shares = self.0.lock();
        let shares = &mut *shares;
        let more = worker.saturating_sub(shares.divided);
        let reported = shares.isolates.values().any(|share| share.weight > 0);
        if more == 0 || shares.isolates.is_empty() || !(reported || at_last) {
            return;
        }
        if !reported {
            shares
                .isolates
                .values_mut()
                .for_each(|share| share.weight = 1);
        }
        // Each gets what is left in proportion to the weights that are left, so that nothing is left at the end.
        let mut left = more;
        let mut weights: u128 = shares
            .isolates
            .values()
            .map(|share| u128::from(share.weight))
            .sum();
        for share in shares.isolates.values_mut() {
            let weight = u128::from(std::mem::take(&mut share.weight));
            let part = (u128::from(left) * weight)
                .checked_div(weights)
                .unwrap_or(0);
            let part = u64::try_from(part).unwrap_or(left);
            share.charged = share.charged.saturating_add(part);
            left -= part;
            weights -= weight;
        }
        shares.divided = worker;
    }

    /// What the isolate was charged over its life.
    pub(super) fn of(&self, id: u32) -> Duration {
        let shares = self.0.lock();
        Duration::from_nanos(shares.isolates.get(&id).map_or(0, |share| share.charged))
    }

    /// The isolate takes part no longer.
    pub(super) fn remove(&self, id: u32) {
        self.0.lock().isolates.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(shares: &CpuShares, id: u32) -> u128 {
        shares.of(id).as_nanos()
    }

    #[test]
    fn shares_follow_reports_and_add_up_to_what_the_kernel_counted() {
        let shares = CpuShares::default();
        (1..4).for_each(|id| shares.add(id));
        shares.report(1, 100);
        shares.report(2, 200);
        shares.divide(Duration::from_nanos(1000), false);
        assert_eq!(
            [ns(&shares, 1), ns(&shares, 2), ns(&shares, 3)],
            [333, 667, 0]
        );
        // Nothing is reported: the time waits.
        shares.divide(Duration::from_nanos(1500), false);
        assert_eq!(ns(&shares, 1) + ns(&shares, 2), 1000);
        shares.report(3, 1);
        shares.divide(Duration::from_nanos(1600), false);
        assert_eq!(ns(&shares, 3), 600);
        // The worker ends and reports nothing more.
        shares.remove(1);
        shares.divide(Duration::from_nanos(1701), true);
        assert_eq!(ns(&shares, 2) + ns(&shares, 3), 1701 - 333);
    }

    #[test]
    fn reports_that_lie_change_no_sum() {
        let shares = CpuShares::default();
        (1..3).for_each(|id| shares.add(id));
        for (id, cpu) in [(1, u64::MAX), (2, u64::MAX), (1, 0), (9, 5)] {
            shares.report(id, cpu);
        }
        shares.divide(Duration::from_nanos(11), false);
        assert_eq!(ns(&shares, 1) + ns(&shares, 2), 11);
        // Neither does a clock that goes back.
        shares.report(1, u64::MAX);
        shares.divide(Duration::from_nanos(10), true);
        assert_eq!(ns(&shares, 1) + ns(&shares, 2), 11);
    }
}
