//! The watchdog: one thread that holds every running isolate to its limits.
//!
//! Invariants:
//! 1. It checks every isolate each [`TICK`] while any isolate runs, and sleeps otherwise.
//! 2. A panic in one check does not end the watchdog; without a watchdog no isolate is created.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::activity::ActivationUsage;
use super::cpu_slots::{self, CPU_BOUND, CpuBound, CpuSlots, SLICE};
use super::interrupt::Outside;
use super::watched::Watched;
use crate::end::TerminateReason;
use crate::start_error::StartError;

/// How long an isolate that is ending may take to stop by itself.
pub const GRACE: Duration = Duration::from_millis(100);

/// How often the watchdog checks: it notices at most this late that a limit is exceeded.
const TICK: Duration = Duration::from_millis(1);

/// Checks without a running isolate before the watchdog sleeps.
const IDLE_TICKS: u32 = 50;

/// How long the watchdog sleeps when nobody wakes it.
const SLEEP: Duration = Duration::from_secs(60);

/// How long the watchdog sleeps when nobody wakes it, while there are isolates in other processes.
const DISTRUST: Duration = Duration::from_millis(500);

/// An isolate, and the slots that it competes for; none in a worker, to which the kernel gives time.
struct WatchdogEntry {
    isolate: Weak<dyn Watched>,
    slots: Option<Arc<CpuSlots>>,
}

pub(crate) struct Watchdog {
    watched: Mutex<Vec<WatchdogEntry>>,
    asleep: AtomicBool,
    wakeups: AtomicU32,
    sleep: Mutex<()>,
    wake: Condvar,
}

static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

impl Watchdog {
    /// Watches an isolate until its thread is gone.
    pub(crate) fn watch(
        isolate: Weak<dyn Watched>,
        slots: Option<Arc<CpuSlots>>,
    ) -> Result<(), StartError> {
        let entry = WatchdogEntry { isolate, slots };
        Self::start()?.watched.lock().push(entry);
        Self::wake();
        Ok(())
    }

    /// Starts the watchdog's thread if it does not run.
    pub(crate) fn start() -> Result<&'static Self, StartError> {
        static STARTED: Mutex<bool> = Mutex::new(false);
        let watchdog = WATCHDOG.get_or_init(|| Self {
            watched: Mutex::default(),
            asleep: AtomicBool::new(false),
            wakeups: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut started = STARTED.lock();
        if !*started {
            std::thread::Builder::new()
                .name("stockade-limits".to_owned())
                .spawn(move || watchdog.run())
                .map_err(|error| StartError {
                    what: format!("cannot start the thread that watches limits: {error}"),
                    checked: "pthread_create(3)".to_owned(),
                    fix: "raise the limit on threads (ulimit -u, pids.max)".to_owned(),
                })?;
            *started = true;
        }
        Ok(watchdog)
    }

    /// An isolate begins to run.
    pub(crate) fn wake() {
        if let Some(watchdog) = WATCHDOG.get() {
            watchdog.wakeups.fetch_add(1, Ordering::SeqCst);
            if watchdog.asleep.load(Ordering::SeqCst) {
                let _guard = watchdog.sleep.lock();
                watchdog.wake.notify_one();
            }
        }
    }

    fn run(&self) {
        let mut idle_ticks = 0;
        let mut slice_began = Instant::now();
        loop {
            let seen = self.wakeups.load(Ordering::SeqCst);
            let new_slice = slice_began.elapsed() >= SLICE;
            if new_slice {
                slice_began = Instant::now();
            }
            let checked = std::panic::catch_unwind(AssertUnwindSafe(|| self.check(new_slice)));
            let Checked { busy, processes } = checked.unwrap_or_else(|_| {
                tracing::error!("the watchdog panicked while checking isolates; it goes on");
                Checked {
                    busy: true,
                    processes: true,
                }
            });
            idle_ticks = if busy { 0 } else { idle_ticks + 1 };
            if idle_ticks < IDLE_TICKS {
                std::thread::sleep(TICK);
                continue;
            }
            // Nobody woke the watchdog: one check will do.
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

    /// Checks every isolate once.
    fn check(&self, new_slice: bool) -> Checked {
        let mut found = Checked::default();
        let mut cpu_bound = Vec::new();
        // The lock is not held meanwhile: isolates may come.
        let mut watched = std::mem::take(&mut *self.watched.lock());
        watched.retain(|entry| {
            let Some(isolate) = entry.isolate.upgrade() else {
                return false;
            };
            if isolate.is_ending() {
                found.busy = true;
                return !isolate.enforce_end();
            }
            isolate.flush_stale();
            if let Some(outside) = isolate.outside() {
                found.note_outside(&*isolate, outside);
                return true;
            }
            if let Some(usage) = found.note_usage(&*isolate)
                && let Some(slots) = &entry.slots
            {
                cpu_bound.push(CpuBound {
                    isolate,
                    slots: Arc::clone(slots),
                    usage,
                });
            }
            true
        });
        {
            let mut list = self.watched.lock();
            watched.append(&mut list);
            *list = watched;
        }
        cpu_slots::share(cpu_bound, new_slice);
        found
    }
}

/// What one check of all isolates has found.
#[derive(Default)]
struct Checked {
    /// An isolate runs or is ending.
    busy: bool,
    /// An isolate lives in another process.
    processes: bool,
}

impl Checked {
    /// Checks an isolate that runs in another process.
    fn note_outside(&mut self, isolate: &dyn Watched, outside: Outside) {
        self.busy |= outside.busy;
        self.processes = true;
        if let Some((reason, detail)) = outside.overrun {
            isolate.terminate(reason, detail);
        }
    }

    /// Checks an isolate of this process; gives the usage of an activation that is CPU-bound.
    fn note_usage(&mut self, isolate: &dyn Watched) -> Option<ActivationUsage> {
        let activity = isolate.activity();
        let (stretch, helper_total) = activity.sample_helper();
        self.busy |= stretch > Duration::ZERO;
        if enforce_on_helper(isolate, stretch, helper_total) {
            return None;
        }
        let Some(usage) = activity.usage() else {
            // A worker whose isolate is held reads its messages here.
            self.busy |= activity.is_active() || activity.is_stopped();
            return None;
        };
        self.busy = true;
        if enforce(isolate, usage) {
            return None;
        }
        if activity.ask_for_sample() {
            isolate.interrupt();
        }
        if usage.cpu < CPU_BOUND {
            // Its last activation may have ended while it was preempted.
            activity.set_preempted(false);
            return None;
        }
        // The isolate measures its memory, and waits when its share is used up.
        let over = activity.over_share();
        if over || isolate.limits().memory.is_some() {
            isolate.interrupt();
        }
        Some(usage)
    }
}

/// Ends an isolate whose helper has worked too long at a stretch, or too much in all.
fn enforce_on_helper(isolate: &dyn Watched, stretch: Duration, total: Duration) -> bool {
    let limits = isolate.limits();
    let (name, limit) = if let Some(limit) = limits.cpu.filter(|limit| stretch > *limit) {
        ("cpuLimitMs", limit)
    } else if let Some(limit) = limits
        .cpu_total
        .filter(|limit| total > Duration::ZERO && isolate.activity().cpu().0 + total > *limit)
    {
        ("cpuTotalMs", limit)
    } else {
        return false;
    };
    let detail = format!("{name} {} in blocking work", limit.as_millis());
    isolate.terminate(TerminateReason::CpuLimit, detail);
    true
}

/// Ends an isolate whose activation is over a limit.
fn enforce(isolate: &dyn Watched, usage: ActivationUsage) -> bool {
    let limits = isolate.limits();
    let over = |limit: Option<Duration>, used: Duration| limit.filter(|limit| used > *limit);
    if let Some(limit) = over(limits.cpu, usage.cpu) {
        isolate.terminate(
            TerminateReason::CpuLimit,
            format!("cpuLimitMs {}", limit.as_millis()),
        );
    } else if let Some(limit) = over(limits.cpu_total, usage.cpu_total) {
        isolate.terminate(
            TerminateReason::CpuLimit,
            format!("cpuTotalMs {}", limit.as_millis()),
        );
    } else if let Some(limit) = over(limits.wall, usage.elapsed) {
        isolate.terminate(
            TerminateReason::WallLimit,
            format!("wallLimitMs {}", limit.as_millis()),
        );
    } else {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use stockade_limits::{CpuShare, Limits};

    use super::*;
    use crate::limits::activity::Activity;

    /// An isolate whose thread is this one.
    struct Here {
        limits: Limits,
        activity: Activity,
        ended: Mutex<Option<String>>,
        interrupts: AtomicUsize,
    }

    impl Here {
        fn new(cpu: Option<Duration>) -> Arc<Self> {
            Arc::new(Self {
                limits: Limits {
                    cpu,
                    ..Limits::default()
                },
                activity: Activity::new(CpuShare::FULL),
                ended: Mutex::new(None),
                interrupts: AtomicUsize::new(0),
            })
        }

        fn compute(&self, cpu: Duration) {
            self.activity.begin();
            while self.activity.usage().unwrap().cpu < cpu {
                std::hint::black_box(0);
            }
        }
    }

    impl Watched for Here {
        fn limits(&self) -> &Limits {
            &self.limits
        }

        fn activity(&self) -> &Activity {
            &self.activity
        }

        fn outside(&self) -> Option<Outside> {
            None
        }

        fn terminate(&self, _: TerminateReason, detail: String) {
            self.ended.lock().get_or_insert(detail);
        }

        fn interrupt(&self) {
            self.interrupts.fetch_add(1, Ordering::SeqCst);
        }

        fn flush_stale(&self) {}

        fn is_ending(&self) -> bool {
            self.ended.lock().is_some()
        }

        fn enforce_end(&self) -> bool {
            true
        }
    }

    fn watchdog(isolates: &[&Arc<Here>], slots: usize) -> Watchdog {
        let slots = Arc::new(CpuSlots { count: slots });
        let watch = |isolate: &&Arc<Here>| {
            let isolate: Weak<Here> = Arc::downgrade(isolate);
            WatchdogEntry {
                isolate,
                slots: Some(Arc::clone(&slots)),
            }
        };
        Watchdog {
            watched: Mutex::new(isolates.iter().map(watch).collect()),
            asleep: AtomicBool::new(false),
            wakeups: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    #[test]
    fn watchdog_gives_a_short_activation_the_slot_that_a_long_one_before_it_lost() {
        let isolate = Here::new(None);
        let watchdog = watchdog(&[&isolate], 1);
        // The watchdog took it away when the activation was about to end.
        isolate.activity.set_preempted(true);
        isolate.activity.begin();
        watchdog.check(false);
        assert!(!isolate.activity.is_preempted());
        isolate.activity.end();
    }

    #[test]
    fn watchdog_preempts_the_activation_that_used_most_where_slots_are_few() {
        let (much, little) = (Here::new(None), Here::new(None));
        let watchdog = watchdog(&[&much, &little], 1);
        much.compute(2 * CPU_BOUND);
        little.compute(CPU_BOUND);
        let before = much.interrupts.load(Ordering::SeqCst);
        watchdog.check(true);
        assert!(much.activity.is_preempted());
        assert!(!little.activity.is_preempted());
        assert!(much.interrupts.load(Ordering::SeqCst) > before);
        little.activity.end();
        watchdog.check(false);
        assert!(!much.activity.is_preempted(), "the slot is free");
    }

    #[test]
    fn watchdog_ends_an_isolate_over_its_limit_and_forgets_it_once_it_left() {
        let isolate = Here::new(Some(Duration::from_millis(1)));
        let watchdog = watchdog(&[&isolate], 1);
        isolate.compute(Duration::from_millis(2));
        assert!(watchdog.check(false).busy);
        assert_eq!(isolate.ended.lock().as_deref(), Some("cpuLimitMs 1"));
        watchdog.check(false);
        assert!(watchdog.watched.lock().is_empty());
    }
}
