//! A queue that is fair between keyspaces.
//!
//! Each keyspace has a lane. Lanes take turns (deficit round robin, Shreedhar and Varghese 1995): in
//! a turn a lane may take jobs worth [`QUANTUM`]: a lane of small jobs and one of large ones get the same
//! share. A lane that is above its rate is passed over until its time comes.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use stockade_limits::{IoRates, RateLimiter};

/// Worth of jobs that a lane may take in a turn.
const QUANTUM: usize = 64 << 10;

/// What each job costs in addition to its bytes.
const JOB: usize = 2 << 10;

/// A lane's time, of which jobs take as much as their rates demand; a second of it at once.
const NANOS_PER_SECOND: NonZeroU64 = NonZeroU64::MIN.saturating_add(999_999_999);
const BURST: Duration = Duration::from_secs(1);

/// What a job weighs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    pub(crate) operations: u32,
    pub(crate) bytes: usize,
}

impl Weight {
    fn cost(self) -> usize {
        (self.operations.max(1) as usize)
            .saturating_mul(JOB)
            .saturating_add(self.bytes)
    }
}

/// Bounds of a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneLimits {
    pub(crate) jobs: usize,
    pub(crate) bytes: usize,
    pub(crate) rates: IoRates,
}

/// Why a job was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { pending: usize },
    Closed,
}

/// Jobs to be done next.
pub(crate) struct Taken<J> {
    pub(crate) jobs: Vec<J>,
    /// No more will ever come.
    pub(crate) ended: bool,
}

struct Lane<J> {
    jobs: VecDeque<(Weight, J)>,
    bytes: usize,
    deficit: usize,
    rates: IoRates,
    time: RateLimiter,
}

struct Lanes<J> {
    lanes: HashMap<i64, Lane<J>>,
    /// Lanes that have jobs, in the order of their turns.
    turns: VecDeque<i64>,
    pending: usize,
    closed: bool,
}

/// The queue. Cheap to share by reference; threads wait in [`FairQueue::take`].
pub(crate) struct FairQueue<J> {
    state: Mutex<Lanes<J>>,
    filled: Condvar,
}

impl<J> FairQueue<J> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(Lanes {
                lanes: HashMap::new(),
                turns: VecDeque::new(),
                pending: 0,
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    /// Adds a job to the lane of a keyspace.
    pub(crate) fn push(
        &self,
        lane: i64,
        limits: LaneLimits,
        weight: Weight,
        job: J,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let Lanes {
            lanes,
            turns,
            pending,
            ..
        } = &mut *state;
        let entry = lanes.entry(lane).or_insert_with(|| Lane {
            jobs: VecDeque::new(),
            bytes: 0,
            deficit: 0,
            rates: limits.rates,
            time: RateLimiter::new(NANOS_PER_SECOND, BURST),
        });
        let bytes = entry.bytes.saturating_add(weight.bytes);
        // One job is always taken, so that bounds below its size do not lock a keyspace out.
        if !entry.jobs.is_empty() && (entry.jobs.len() >= limits.jobs || bytes > limits.bytes) {
            return Err(Refused::Full {
                pending: entry.jobs.len(),
            });
        }
        if entry.jobs.is_empty() {
            turns.push_back(lane);
        }
        entry.rates = limits.rates;
        entry.bytes = bytes;
        entry.jobs.push_back((weight, job));
        *pending += 1;
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes up to `jobs` jobs worth about `cost`. Waits for the first one, until `deadline`.
    pub(crate) fn take(&self, jobs: usize, cost: usize, deadline: Option<Instant>) -> Taken<J> {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let mut taken = Vec::new();
            let next = state.pick(jobs, cost, now, &mut taken);
            if !taken.is_empty() {
                return Taken {
                    jobs: taken,
                    ended: false,
                };
            }
            if state.closed && state.pending == 0 {
                return Taken {
                    jobs: taken,
                    ended: true,
                };
            }
            let until = match (deadline, next) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            match until {
                None => self.filled.wait(&mut state),
                Some(until) => {
                    let timed_out = self.filled.wait_until(&mut state, until).timed_out();
                    if timed_out && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Taken {
                            jobs: Vec::new(),
                            ended: false,
                        };
                    }
                }
            }
        }
    }

    /// Takes no more jobs; those that wait are still given out, without a rate.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// Jobs that wait.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().pending
    }

    /// Drops what waits and takes no more: for a thread that ends where it should not.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let lanes = std::mem::take(&mut state.lanes);
        state.turns.clear();
        state.pending = 0;
        drop(state);
        drop(lanes);
        self.filled.notify_all();
    }
}

impl<J> Lanes<J> {
    /// Moves jobs to `taken`. Returns when a lane that is above its rate may go on, if nothing was taken.
    fn pick(
        &mut self,
        jobs: usize,
        mut cost: usize,
        now: Instant,
        taken: &mut Vec<J>,
    ) -> Option<Instant> {
        loop {
            let mut next: Option<Instant> = None;
            let mut eligible = false;
            for _ in 0..self.turns.len() {
                if taken.len() >= jobs || cost == 0 {
                    return None;
                }
                let Some(id) = self.turns.pop_front() else {
                    break;
                };
                let Some(lane) = self.lanes.get_mut(&id) else {
                    continue;
                };
                let wait = if self.closed { None } else { lane.wait(now) };
                if let Some(wait) = wait {
                    next = Some(next.map_or(wait, |next| next.min(wait)));
                    lane.deficit = 0;
                    self.turns.push_back(id);
                    continue;
                }
                eligible = true;
                lane.deficit = lane.deficit.saturating_add(QUANTUM);
                while taken.len() < jobs && cost > 0 {
                    let must_wait = !self.closed && lane.wait(now).is_some();
                    let Some(job) = lane.pop(now, must_wait) else {
                        break;
                    };
                    cost = cost.saturating_sub(job.0.cost());
                    self.pending = self.pending.saturating_sub(1);
                    taken.push(job.1);
                }
                if lane.jobs.is_empty() {
                    lane.deficit = 0;
                } else {
                    self.turns.push_back(id);
                }
            }
            if !eligible || taken.len() >= jobs || cost == 0 || self.turns.is_empty() {
                return next;
            }
        }
    }
}

impl<J> Lane<J> {
    fn wait(&self, now: Instant) -> Option<Instant> {
        let wait = self.time.wait(now);
        (!wait.is_zero()).then(|| now + wait)
    }

    fn pop(&mut self, now: Instant, must_wait: bool) -> Option<(Weight, J)> {
        let cost = self.jobs.front()?.0.cost();
        if must_wait || cost > self.deficit {
            return None;
        }
        let (weight, job) = self.jobs.pop_front()?;
        self.deficit -= cost;
        self.bytes = self.bytes.saturating_sub(weight.bytes);
        let nanos = self
            .rates
            .nanos(weight.operations.into(), weight.bytes as u64);
        self.time.take(nanos, now);
        Some((weight, job))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const WIDE: LaneLimits = LaneLimits {
        jobs: 10_000,
        bytes: usize::MAX,
        rates: IoRates {
            operations: None,
            bytes: None,
        },
    };

    fn weight(bytes: usize) -> Weight {
        Weight {
            operations: 1,
            bytes,
        }
    }

    #[test]
    fn queue_with_a_flood_in_one_lane_serves_the_other_next() {
        let queue = FairQueue::new();
        for job in 0..5000 {
            queue.push(1, WIDE, weight(100), (1, job)).unwrap();
        }
        queue.push(2, WIDE, weight(100), (2, 0)).unwrap();
        let taken = queue.take(100, usize::MAX, None).jobs;
        assert!(taken.contains(&(2, 0)), "{taken:?}");
        assert_eq!(taken.len(), 100);
    }

    #[test]
    fn queue_with_large_and_small_jobs_shares_by_bytes() {
        let queue = FairQueue::new();
        for _ in 0..100 {
            queue.push(1, WIDE, weight(1 << 20), 1).unwrap();
        }
        for _ in 0..10_000 {
            queue.push(2, WIDE, weight(100), 2).unwrap();
        }
        let mut large = 0;
        let mut small = 0;
        while small < 5000 {
            for job in queue.take(64, 1 << 20, None).jobs {
                if job == 1 { large += 1 } else { small += 1 }
            }
        }
        // 5,000 small ones cost about 10.5 MiB: the other lane got about as much.
        assert!((8..=14).contains(&large), "{large}");
    }

    #[test]
    fn queue_keeps_the_order_of_a_lane() {
        let queue = FairQueue::new();
        for job in 0..1000 {
            queue.push(1, WIDE, weight(job % 7 * 50_000), job).unwrap();
        }
        queue.close();
        let mut seen = Vec::new();
        loop {
            let taken = queue.take(10, 1 << 20, None);
            if taken.ended {
                break;
            }
            seen.extend(taken.jobs);
        }
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn queue_above_its_bounds_refuses() {
        let queue = FairQueue::new();
        let limits = LaneLimits {
            jobs: 2,
            bytes: 100,
            rates: WIDE.rates,
        };
        queue.push(1, limits, weight(1000), ()).unwrap();
        assert_eq!(
            queue.push(1, limits, weight(1), ()),
            Err(Refused::Full { pending: 1 })
        );
        queue.take(1, 1, None);
        queue.push(1, limits, weight(1), ()).unwrap();
        queue.push(1, limits, weight(1), ()).unwrap();
        assert_eq!(
            queue.push(1, limits, weight(1), ()),
            Err(Refused::Full { pending: 2 })
        );
        assert_eq!(queue.push(2, limits, weight(1), ()), Ok(()));
        assert_eq!(queue.pending(), 3);
    }

    #[test]
    fn queue_above_its_rate_waits_and_does_not_hold_up_others() {
        let queue = FairQueue::new();
        let slow = LaneLimits {
            rates: IoRates {
                operations: NonZeroU64::new(10),
                bytes: None,
            },
            ..WIDE
        };
        for _ in 0..100 {
            queue.push(1, slow, weight(1), 1).unwrap();
        }
        for _ in 0..100 {
            queue.push(2, WIDE, weight(1), 2).unwrap();
        }
        let first = queue.take(200, usize::MAX, None).jobs;
        assert_eq!(first.iter().filter(|job| **job == 2).count(), 100);
        assert!(first.len() <= 112, "{}", first.len());
        let begun = Instant::now();
        assert!(!queue.take(200, usize::MAX, None).jobs.is_empty());
        assert!(begun.elapsed().as_millis() >= 30);
    }

    #[test]
    fn lane_with_jobs_of_many_operations_and_of_many_bytes_adds_up_their_times() {
        let now = Instant::now();
        let mut lane = Lane {
            jobs: VecDeque::new(),
            bytes: 0,
            deficit: usize::MAX,
            rates: IoRates {
                operations: NonZeroU64::new(10),
                bytes: NonZeroU64::new(1000),
            },
            time: RateLimiter::new(NANOS_PER_SECOND, BURST),
        };
        // One second by its operations, one by its bytes.
        for (operations, bytes) in [(10, 1), (1, 1000)] {
            lane.jobs.push_back((Weight { operations, bytes }, ()));
            assert!(lane.wait(now).is_none());
            lane.pop(now, false).unwrap();
        }
        assert_eq!(lane.wait(now), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn queue_with_a_deadline_returns_empty() {
        let queue = FairQueue::<()>::new();
        let taken = queue.take(1, 1, Some(Instant::now()));
        assert!(taken.jobs.is_empty() && !taken.ended);
    }

    #[test]
    fn queue_closed_refuses_and_ends() {
        let queue = FairQueue::new();
        queue.push(1, WIDE, weight(1), ()).unwrap();
        queue.close();
        assert_eq!(queue.push(1, WIDE, weight(1), ()), Err(Refused::Closed));
        assert_eq!(queue.take(9, 9, None).jobs.len(), 1);
        assert!(queue.take(9, 9, None).ended);
    }
}
