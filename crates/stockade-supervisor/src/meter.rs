//! One thread that watches what every running isolate uses.
//!
//! Invariants:
//! 1. It looks every [`TICK`] while any isolate runs, and sleeps otherwise.
//! 2. A panic in one look does not end the watch; without a meter no isolate is created.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::activity::Usage;
use crate::end::TerminateReason;
use crate::shared::Shared;
use crate::wall::StartError;

/// How long an isolate with a verdict may take to stop by itself.
pub const GRACE: Duration = Duration::from_millis(100);

/// How often the meter looks: a limit is noticed at most this late.
const TICK: Duration = Duration::from_millis(1);

/// An activation is long, and competes for its pool's threads, from this much CPU time on.
const LONG: Duration = Duration::from_millis(3);

/// How long a turn is where long activations share fewer threads.
const TURN: Duration = Duration::from_millis(10);

/// Looks without a running isolate before the meter sleeps.
const IDLE_TICKS: u32 = 50;

/// How long the meter sleeps when nobody wakes it.
const SLEEP: Duration = Duration::from_secs(60);

/// The same while there are isolates in other processes.
const DISTRUST: Duration = Duration::from_millis(500);

pub(crate) struct Meter {
    watched: Mutex<Vec<Weak<Shared>>>,
    asleep: AtomicBool,
    wakeups: AtomicU32,
    sleep: Mutex<()>,
    wake: Condvar,
}

static METER: OnceLock<Meter> = OnceLock::new();

impl Meter {
    /// Watches an isolate until its thread is gone.
    pub(crate) fn watch(shared: &Arc<Shared>) -> Result<(), StartError> {
        Self::start()?.watched.lock().push(Arc::downgrade(shared));
        Self::wake();
        Ok(())
    }

    /// Starts the meter's thread if it does not run.
    pub(crate) fn start() -> Result<&'static Self, StartError> {
        static STARTED: Mutex<bool> = Mutex::new(false);
        let meter = METER.get_or_init(|| Self {
            watched: Mutex::default(),
            asleep: AtomicBool::new(false),
            wakeups: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut started = STARTED.lock();
        if !*started {
            std::thread::Builder::new()
                .name("stockade-meter".to_owned())
                .spawn(move || meter.run())
                .map_err(|error| StartError {
                    what: format!("cannot start the thread that watches limits: {error}"),
                    checked: "pthread_create(3)".to_owned(),
                    fix: "raise the limit on threads (ulimit -u, pids.max)".to_owned(),
                })?;
            *started = true;
        }
        Ok(meter)
    }

    /// An isolate begins to run.
    pub(crate) fn wake() {
        if let Some(meter) = METER.get() {
            meter.wakeups.fetch_add(1, Ordering::SeqCst);
            if meter.asleep.load(Ordering::SeqCst) {
                let _guard = meter.sleep.lock();
                meter.wake.notify_one();
            }
        }
    }

    fn run(&self) {
        let mut idle_ticks = 0;
        let mut turn_began = Instant::now();
        loop {
            let seen = self.wakeups.load(Ordering::SeqCst);
            let new_turn = turn_began.elapsed() >= TURN;
            if new_turn {
                turn_began = Instant::now();
            }
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| self.look(new_turn)));
            let Looked { busy, processes } = looked.unwrap_or_else(|_| {
                log::error!("the meter panicked while looking at isolates; it goes on");
                Looked {
                    busy: true,
                    processes: true,
                }
            });
            idle_ticks = if busy { 0 } else { idle_ticks + 1 };
            if idle_ticks < IDLE_TICKS {
                std::thread::sleep(TICK);
                continue;
            }
            // Nobody woke the meter: one look will do.
            idle_ticks = IDLE_TICKS;
            let mut guard = self.sleep.lock();
            self.asleep.store(true, Ordering::SeqCst);
            if self.wakeups.load(Ordering::SeqCst) == seen {
                // A worker that was taken over may compute while it says that it is idle.
                let rest = if processes { DISTRUST } else { SLEEP };
                if !self.wake.wait_for(&mut guard, rest).timed_out() {
                    idle_ticks = 0;
                }
            } else {
                idle_ticks = 0;
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Looks at every isolate once.
    fn look(&self, new_turn: bool) -> Looked {
        let mut busy = false;
        let mut processes = false;
        let mut long: Vec<(Arc<Shared>, Usage)> = Vec::new();
        let mut watched = std::mem::take(&mut *self.watched.lock());
        watched.retain(|weak| {
            let Some(shared) = weak.upgrade() else {
                return false;
            };
            if shared.is_ending() {
                busy = true;
                return !shared.watch_end(shared.grace());
            }
            if let Some(post) = &shared.post {
                post.tick();
            }
            if let Some(outside) = shared.outside() {
                busy |= outside.busy;
                processes = true;
                if let Some((reason, detail)) = outside.overrun {
                    shared.convict(reason, detail);
                }
                return true;
            }
            let (stretch, helper_total) = shared.activity.look_at_helper();
            busy |= stretch > Duration::ZERO;
            if judge_helper(&shared, stretch, helper_total) {
                return true;
            }
            if let Some(usage) = shared.activity.usage() {
                busy = true;
                let goes_on = !judge(&shared, usage);
                if goes_on && usage.cpu >= LONG {
                    long.push((shared, usage));
                } else if goes_on {
                    // Its last activation may have ended while its turn was taken away.
                    shared.activity.set_out_of_turn(false);
                }
            } else {
                busy |= shared.activity.is_active();
            }
            true
        });
        {
            let mut list = self.watched.lock();
            watched.append(&mut list);
            *list = watched;
        }
        for (shared, _) in &long {
            // The isolate measures its memory, and waits when its share is used up.
            let over = shared.activity.over_share();
            if (over || shared.options.limits.memory.is_some())
                && let Some(breaker) = &*shared.breaker.lock()
            {
                breaker.interrupt();
            }
        }
        give_turns(long, new_turn);
        Looked { busy, processes }
    }
}

struct Looked {
    /// An isolate runs or is ending.
    busy: bool,
    /// An isolate lives in another process.
    processes: bool,
}

/// Ends an isolate whose helper has worked too long at a stretch, or too much in all.
fn judge_helper(shared: &Shared, stretch: Duration, total: Duration) -> bool {
    let limits = &shared.options.limits;
    let (name, limit) = if let Some(limit) = limits.cpu.filter(|limit| stretch > *limit) {
        ("cpuLimitMs", limit)
    } else if let Some(limit) = limits
        .cpu_total
        .filter(|limit| total > Duration::ZERO && shared.activity.cpu().0 + total > *limit)
    {
        ("cpuTotalMs", limit)
    } else {
        return false;
    };
    let detail = format!("{name} {} in blocking work", limit.as_millis());
    shared.convict(TerminateReason::CpuLimit, detail);
    true
}

/// Ends an isolate whose activation is over a limit.
fn judge(shared: &Shared, usage: Usage) -> bool {
    let limits = &shared.options.limits;
    let over = |limit: Option<Duration>, used: Duration| limit.filter(|limit| used > *limit);
    if let Some(limit) = over(limits.cpu, usage.cpu) {
        shared.convict(
            TerminateReason::CpuLimit,
            format!("cpuLimitMs {}", limit.as_millis()),
        );
    } else if let Some(limit) = over(limits.cpu_total, usage.cpu_total) {
        shared.convict(
            TerminateReason::CpuLimit,
            format!("cpuTotalMs {}", limit.as_millis()),
        );
    } else if let Some(limit) = over(limits.wall, usage.wall) {
        shared.convict(
            TerminateReason::WallLimit,
            format!("wallLimitMs {}", limit.as_millis()),
        );
    } else {
        return false;
    }
    true
}

/// Where more isolates of a pool compute at length than it has threads, the ones that have had least
/// CPU time go on and the others wait; short activations never wait for anyone.
fn give_turns(mut long: Vec<(Arc<Shared>, Usage)>, new_turn: bool) {
    let pool_of = |entry: &(Arc<Shared>, Usage)| Arc::as_ptr(&entry.0.pool);
    long.sort_by_key(|entry| (pool_of(entry), entry.1.cpu_total));
    for group in long.chunk_by(|a, b| pool_of(a) == pool_of(b)) {
        let running = group
            .iter()
            .filter(|(shared, _)| !shared.activity.is_out_of_turn())
            .count();
        let threads = group.first().map_or(0, |(shared, _)| shared.pool.threads);
        let mut free = if new_turn {
            threads
        } else {
            threads.saturating_sub(running)
        };
        for (shared, _) in group {
            let was_out = shared.activity.is_out_of_turn();
            if !new_turn && !was_out {
                continue;
            }
            let out = free == 0;
            free = free.saturating_sub(1);
            shared.activity.set_out_of_turn(out);
            if out
                && !was_out
                && let Some(breaker) = &*shared.breaker.lock()
            {
                breaker.interrupt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_policy::IsolateOptions;

    use super::*;
    use crate::hub::Hub;
    use crate::supervisor::Pool;

    #[test]
    fn meter_gives_a_short_activation_the_turn_that_a_long_one_before_it_lost() {
        let options = Arc::new(IsolateOptions::default());
        let pool = Arc::new(Pool::detached());
        let shared = Arc::new(Shared::new(0, options, pool, Hub::new(), None));
        let meter = Meter {
            watched: Mutex::new(vec![Arc::downgrade(&shared)]),
            asleep: AtomicBool::new(false),
            wakeups: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        };
        // The meter took it away when the activation was about to end.
        shared.activity.set_out_of_turn(true);
        shared.activity.begin();
        meter.look(false);
        assert!(!shared.activity.is_out_of_turn());
        shared.activity.end();
    }
}
