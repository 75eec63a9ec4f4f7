//! What a worker uses, by the kernel's clocks.
//!
//! The worker's own watchdog holds isolates to their limits exactly. This backstop assumes that the worker was
//! taken over, so that its watchdog does not work or lies, and holds the worker to limits that an honest one
//! never reaches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_limits::IsolateOptions;

use super::process::WorkerProcess;
use crate::end::{ResourceUsage, TerminateReason};
use crate::limits::interrupt::Outside;
use crate::limits::watchdog::Watchdog;

/// How much more time than its isolates may use a worker gets: V8 collects garbage and compiles on threads
/// of its own in a worker of a trust group, and a busy machine reports late that an activation is over.
const FACTOR: u32 = 3;

/// How old the reported usage of an idle worker may be.
const STALE: Duration = Duration::from_millis(400);

/// How long a probe that was stopped may go on to use time that is not the guest's: what it found is still to be sent.
const LAST_OF_PROBE: Duration = Duration::from_secs(30);

/// The longest that a probe takes: what it lasts, until all has come.
const LONGEST_PROBE: Duration = Duration::from_secs(660);

/// How long a debugger may say nothing until the limits of the backstop hold again.
const LONGEST_THOUGHT: Duration = Duration::from_secs(3600);

/// CPU time that a worker may be ahead of its share.
const AHEAD: Duration = Duration::from_millis(500);

pub(crate) struct Backstop {
    /// Something ended since the last check.
    rested: AtomicBool,
    state: Mutex<BackstopState>,
}

struct BackstopState {
    limits: Sums,
    /// When the worker was sealed, and CPU time until then.
    zero: (Instant, Duration),
    /// CPU time until the activation that seems to run.
    base: Duration,
    /// Since when that seems to run; `None` while there is nothing to do.
    busy_since: Option<Instant>,
    /// Since when the worker waits for its host.
    held: Option<Instant>,
    sampled: Instant,
    cpu: Duration,
    paused: bool,
    /// Probes of isolates in it that are open.
    probes: u32,
    /// While there are any.
    probed: Option<Probed>,
}

/// Time that is not a guest's.
struct Probed {
    /// CPU time before it.
    cpu: Duration,
    /// When it is over at the latest.
    until: Instant,
}

/// Limits of the isolates in the worker together; `None` where one has none.
#[derive(Default)]
struct Sums {
    isolates: u32,
    cpu: Option<Duration>,
    cpu_total: Option<Duration>,
    wall: Option<Duration>,
    grace: Duration,
    share: f64,
}

impl Backstop {
    pub(super) fn new(worker: &dyn WorkerProcess) -> Self {
        let now = (Instant::now(), worker.cpu_time().unwrap_or_default());
        Self {
            rested: AtomicBool::new(true),
            state: Mutex::new(BackstopState {
                limits: Sums::default(),
                zero: now,
                base: now.1,
                busy_since: None,
                held: None,
                sampled: now.0,
                cpu: now.1,
                paused: false,
                probes: 0,
                probed: None,
            }),
        }
    }

    /// The worker is sealed: what was used until now was not for a guest.
    pub(super) fn restart(&self, worker: &dyn WorkerProcess) {
        let now = (Instant::now(), worker.cpu_time().unwrap_or_default());
        let mut state = self.state.lock();
        state.zero = now;
        state.base = now.1;
        state.busy_since = None;
        state.cpu = now.1;
    }

    /// An isolate comes into the worker.
    pub(super) fn add(&self, options: &IsolateOptions) {
        let limits = &options.limits;
        let mut state = self.state.lock();
        let sums = &mut state.limits;
        let first = sums.isolates == 0;
        let both = |sum: Option<Duration>, one: Option<Duration>| {
            if first { one } else { Some(sum? + one?) }
        };
        sums.cpu = both(sums.cpu, limits.cpu);
        sums.cpu_total = both(sums.cpu_total, limits.cpu_total);
        sums.wall = both(sums.wall, limits.wall);
        sums.grace = sums.grace.max(options.kill_grace);
        sums.share += limits.cpu_share.fraction();
        sums.isolates += 1;
    }

    /// The worker has work.
    pub(super) fn begins(&self) {
        Watchdog::wake();
    }

    /// An activation is over.
    pub(super) fn rests(&self) {
        self.rested.store(true, Ordering::SeqCst);
    }

    /// The worker waits for its host.
    pub(super) fn held(&self) {
        self.state.lock().held.get_or_insert_with(Instant::now);
    }

    pub(super) fn released(&self) {
        let mut state = self.state.lock();
        if let (Some(since), Some(busy)) = (state.held.take(), &mut state.busy_since) {
            *busy += since.elapsed();
        }
    }

    /// A probe of an isolate in the worker begins: the limits of the backstop do not hold until
    /// the probe is over, which it is in any case after [`LONGEST_PROBE`].
    pub(super) fn probe_begins(&self) {
        let mut state = self.state.lock();
        state.probes += 1;
        let (cpu, until) = (state.cpu, Instant::now() + LONGEST_PROBE);
        state.probed.get_or_insert(Probed { cpu, until }).until = until;
    }

    /// A debugger does something: its session goes on, for as long as a person may think.
    pub(super) fn probe_lasts(&self) {
        if let Some(probed) = &mut self.state.lock().probed {
            probed.until = Instant::now() + LONGEST_THOUGHT;
        }
    }

    /// Whether a probe of an isolate in the worker is open.
    pub(super) fn is_probed(&self) -> bool {
        self.state.lock().probed.is_some()
    }

    /// A probe is stopped, and has some time to come to its end.
    pub(super) fn probe_stops(&self) {
        let mut state = self.state.lock();
        if let (0 | 1, Some(probed)) = (state.probes, &mut state.probed) {
            probed.until = probed.until.min(Instant::now() + LAST_OF_PROBE);
        }
    }

    /// What a probe found has come.
    pub(super) fn probe_ends(&self) {
        let mut state = self.state.lock();
        state.probes = state.probes.saturating_sub(1);
        if state.probes == 0 {
            state.leave_probe();
        }
    }

    /// The worker has ended, with this CPU time.
    pub(super) fn ended(&self, cpu: Duration) {
        let mut state = self.state.lock();
        state.cpu = state.cpu.max(cpu);
    }

    /// CPU time of the worker since it was sealed, by the kernel's clock, now; when last read where the worker is gone.
    pub(super) fn cpu(&self, worker: &dyn WorkerProcess) -> Duration {
        let now = worker.cpu_time();
        let mut state = self.state.lock();
        state.cpu = now.unwrap_or(state.cpu).max(state.cpu);
        state.cpu.saturating_sub(state.zero.1)
    }

    /// What the worker uses, and whether that is more than it may.
    pub(super) fn check(&self, worker: &dyn WorkerProcess, busy: bool, memory: u64) -> Outside {
        let mut state = self.state.lock();
        let now = Instant::now();
        let rested = self.rested.swap(false, Ordering::SeqCst);
        let fresh = now.duration_since(state.sampled) < STALE;
        if busy || rested || state.paused || !fresh {
            state.sampled = now;
            state.cpu = worker.cpu_time().unwrap_or(state.cpu).max(state.cpu);
        }
        if (state.probed.as_ref()).is_some_and(|probed| now >= probed.until) {
            state.probes = 0;
            state.leave_probe();
        }
        if rested {
            state.base = state.cpu;
        }
        // Not since the last rest: what came a moment ago has not taken the time before it.
        let busy_since = (state.busy_since)
            .filter(|_| busy && !rested)
            .unwrap_or(now);
        state.busy_since = busy.then_some(busy_since);
        let usage = ResourceUsage {
            cpu: state.cpu.saturating_sub(state.base),
            cpu_total: state.cpu.saturating_sub(state.zero.1),
            wall: now.duration_since(busy_since),
            memory,
        };
        let overrun = match state.probed {
            Some(_) => None,
            None => {
                state.hold_to_share(worker, now);
                state.overrun(&usage, busy)
            }
        };
        Outside {
            usage,
            busy: busy || state.paused,
            overrun,
        }
    }
}

impl BackstopState {
    /// The limits hold again; what was used meanwhile is no guest's.
    fn leave_probe(&mut self) {
        if let Some(probed) = self.probed.take() {
            self.zero.1 += self.cpu.saturating_sub(probed.cpu);
            self.base = self.cpu;
            self.busy_since = None;
        }
    }

    fn overrun(&self, usage: &ResourceUsage, busy: bool) -> Option<(TerminateReason, String)> {
        let sums = &self.limits;
        let over = |used: Duration, limit: Option<Duration>| {
            limit.filter(|limit| used > limit.saturating_mul(FACTOR) + sums.grace)
        };
        let millis = |name: &str, limit: Duration| {
            format!("{name} {}, by its process as a whole", limit.as_millis())
        };
        if let Some(limit) = over(usage.cpu, sums.cpu) {
            return Some((TerminateReason::CpuLimit, millis("cpuLimitMs", limit)));
        }
        if let Some(limit) = over(usage.cpu_total, sums.cpu_total) {
            return Some((TerminateReason::CpuLimit, millis("cpuTotalMs", limit)));
        }
        if busy
            && self.held.is_none()
            && let Some(limit) = over(usage.wall, sums.wall)
        {
            return Some((TerminateReason::WallLimit, millis("wallLimitMs", limit)));
        }
        None
    }

    /// Stops a worker that is far ahead of its share until it is not.
    fn hold_to_share(&mut self, worker: &dyn WorkerProcess, now: Instant) {
        if self.limits.isolates == 0 || self.limits.share >= 1.0 {
            return;
        }
        let fair = now.duration_since(self.zero.0).mul_f64(self.limits.share);
        let used = self.cpu.saturating_sub(self.zero.1);
        let ahead = used > fair.saturating_mul(FACTOR) + AHEAD;
        if ahead != self.paused {
            self.paused = ahead;
            if ahead {
                worker.pause();
            } else {
                worker.resume();
            }
        }
    }
}
