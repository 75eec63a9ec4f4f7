//! What an isolate's thread is doing and what it has used, readable from any thread.
//!
//! Invariant: `seq` is odd while an activation runs and changes whenever one begins or ends, so a
//! reader that sees the same odd number before and after has read values of one activation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use stockade_limits::CpuShare;

use super::cpu_clock::CpuClock;

/// Nanoseconds since the first call.
pub(crate) fn now_ns() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    nanos(EPOCH.get_or_init(Instant::now).elapsed())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Use of one running activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivationUsage {
    pub(crate) cpu: Duration,
    pub(crate) cpu_total: Duration,
    pub(crate) elapsed: Duration,
}

pub(crate) struct Activity {
    seq: AtomicU64,
    began_at: AtomicU64,
    began_cpu: AtomicU64,
    /// CPU time of the activations before this one.
    total_before: AtomicU64,
    /// CPU time of the last finished activation.
    last_cpu: AtomicU64,
    /// Time the runtime held this activation back.
    held: AtomicU64,
    clock: OnceLock<CpuClock>,
    /// A profile of it is being recorded.
    sampled: AtomicBool,
    /// `seq` when the last sample was asked for.
    sample_asked: AtomicU64,
    stopped: Mutex<Stopped>,
    hold: Hold,
    helper: Mutex<Helper>,
}

/// Clocks that do not run although an activation does.
#[derive(Default)]
struct Stopped {
    /// How many debuggers hold the isolate.
    times: u32,
    /// Elapsed and CPU time when the clocks stopped.
    since: Option<(u64, u64)>,
}

/// The thread that does blocking work for the isolate, such as making keys.
#[derive(Default)]
struct Helper {
    clock: Option<CpuClock>,
    /// CPU time that it used before it worked for this isolate; the others count from there.
    zero: u64,
    /// Its CPU time in the last sample.
    seen: u64,
    /// Its CPU time when it was last idle.
    idle_at: u64,
    /// Has it call [`Activity::helper_is_idle`] once it has done what it was given.
    ask: Option<Box<dyn Fn() + Send>>,
    /// It was asked, and has not answered yet.
    is_asked: bool,
    /// CPU time of helpers that are gone.
    past: u64,
}

/// Keeps a thread back: because of the CPU share, or because other isolates have the CPU slots.
struct Hold {
    share: CpuShare,
    state: Mutex<HoldState>,
    change: Condvar,
}

#[derive(Default)]
struct HoldState {
    /// The watchdog gave the slot to another isolate.
    preempted: bool,
    /// The isolate is ending: never hold it again.
    released: bool,
    /// The CPU share's budget in nanoseconds and when it was last filled.
    budget: f64,
    filled: u64,
    /// Thread CPU time up to which the budget has been charged.
    charged: u64,
    /// Since when the thread has been waiting here.
    waiting_since: Option<u64>,
}

/// CPU time of a helper that is not worth a question, in nanoseconds: what it takes to answer one is less.
const BRIEF: u64 = 200_000;

/// How much of a second's share may be used in one go.
const BURST: f64 = 0.05;

impl Activity {
    pub(crate) fn new(share: CpuShare) -> Self {
        let state = HoldState {
            budget: share.fraction() * BURST * 1e9,
            filled: now_ns(),
            ..HoldState::default()
        };
        Self {
            seq: AtomicU64::new(0),
            began_at: AtomicU64::new(0),
            began_cpu: AtomicU64::new(0),
            total_before: AtomicU64::new(0),
            last_cpu: AtomicU64::new(0),
            held: AtomicU64::new(0),
            clock: OnceLock::new(),
            sampled: AtomicBool::new(false),
            sample_asked: AtomicU64::new(0),
            stopped: Mutex::default(),
            helper: Mutex::default(),
            hold: Hold {
                share,
                state: Mutex::new(state),
                change: Condvar::new(),
            },
        }
    }

    /// Begins an activation on the calling thread, after waiting for CPU budget if there is none.
    pub(crate) fn begin(&self) {
        if self.seq.load(Ordering::Relaxed) % 2 == 1 {
            return;
        }
        self.clock.get_or_init(CpuClock::of_this_thread);
        let cpu = nanos(CpuClock::now());
        if self.hold.share < CpuShare::FULL {
            self.hold.state.lock().charged = cpu;
            self.wait_for_slot();
        }
        self.held.store(0, Ordering::Relaxed);
        self.began_cpu.store(cpu, Ordering::Relaxed);
        self.began_at.store(now_ns(), Ordering::Relaxed);
        self.seq.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends the running activation and gives the CPU time it used.
    pub(crate) fn end(&self) -> Duration {
        if self.seq.load(Ordering::Relaxed).is_multiple_of(2) {
            return Duration::ZERO;
        }
        let cpu = nanos(CpuClock::now());
        let used = cpu.saturating_sub(self.began_cpu.load(Ordering::Relaxed));
        self.seq.fetch_add(1, Ordering::SeqCst);
        self.total_before.fetch_add(used, Ordering::Relaxed);
        self.last_cpu.store(used, Ordering::Relaxed);
        if self.hold.share < CpuShare::FULL {
            self.charge(cpu);
        }
        Duration::from_nanos(used)
    }

    /// Stops the clocks of the running activation, on its thread: a debugger holds the isolate. Each
    /// stop needs a [`Activity::restart_clocks`].
    pub(crate) fn stop_clocks(&self) {
        let mut stopped = self.stopped.lock();
        stopped.times += 1;
        if stopped.times == 1 && self.is_active() {
            stopped.since = Some((now_ns(), nanos(CpuClock::now())));
            self.seq.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Lets the clocks go on where they were; true if they do.
    pub(crate) fn restart_clocks(&self) -> bool {
        let mut stopped = self.stopped.lock();
        stopped.times = stopped.times.saturating_sub(1);
        if stopped.times > 0 {
            return false;
        }
        let Some((at, cpu)) = stopped.since.take() else {
            return false;
        };
        self.began_at
            .fetch_add(now_ns().saturating_sub(at), Ordering::Relaxed);
        let used = nanos(CpuClock::now()).saturating_sub(cpu);
        self.began_cpu.fetch_add(used, Ordering::Relaxed);
        self.hold.state.lock().charged += used;
        self.seq.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// The thread of this clock works for the isolate from now on. `ask` has it call [`Self::helper_is_idle`] once it
    /// has done what it was given by then.
    pub(crate) fn set_helper(&self, clock: CpuClock, ask: Box<dyn Fn() + Send>) {
        let mut helper = self.helper.lock();
        *helper = Helper {
            clock: Some(clock),
            ask: Some(ask),
            zero: clock.read().map_or(0, nanos),
            past: helper.past + helper.seen,
            ..Helper::default()
        };
    }

    /// On the helper: it has done what it was given.
    pub(crate) fn helper_is_idle(&self) {
        let mut helper = self.helper.lock();
        helper.idle_at = nanos(CpuClock::now()).saturating_sub(helper.zero);
        helper.is_asked = false;
    }

    /// CPU time that the helper has used without a pause, and in all. A helper that used none since the last sample
    /// is idle or waits for a processor. Only the helper knows which, so it is asked.
    pub(crate) fn sample_helper(&self) -> (Duration, Duration) {
        let mut helper = self.helper.lock();
        let Some(now) = helper.clock.and_then(CpuClock::read).map(nanos) else {
            return (Duration::ZERO, Duration::from_nanos(helper.past));
        };
        let now = now.saturating_sub(helper.zero);
        if now == helper.seen {
            if now.saturating_sub(helper.idle_at) < BRIEF {
                helper.idle_at = now;
            } else if let Some(ask) = helper.ask.as_ref().filter(|_| !helper.is_asked) {
                ask();
                helper.is_asked = true;
            }
        }
        helper.seen = now;
        let at_a_stretch = now.saturating_sub(helper.idle_at);
        (
            Duration::from_nanos(at_a_stretch),
            Duration::from_nanos(helper.past + now),
        )
    }

    pub(crate) fn set_sampled(&self, sampled: bool) {
        self.sampled.store(sampled, Ordering::SeqCst);
    }

    /// Whether the running activation is to be sampled now, which it is asked for.
    pub(crate) fn ask_for_sample(&self) -> bool {
        let sampled = self.sampled.load(Ordering::Relaxed);
        if sampled {
            let seq = self.seq.load(Ordering::SeqCst);
            self.sample_asked.store(seq, Ordering::SeqCst);
        }
        sampled
    }

    /// Whether the sample that was asked for is one of the running activation: the engine may serve an interrupt as late
    /// as at the beginning of the next one.
    pub(crate) fn is_sample_of_now(&self) -> bool {
        self.sample_asked.load(Ordering::SeqCst) == self.seq.load(Ordering::SeqCst)
    }

    /// Whether the clocks stand, as while a debugger holds the isolate.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.lock().times > 0
    }

    /// CPU time of helpers over the isolate's life, when last sampled.
    pub(crate) fn helper_cpu(&self) -> Duration {
        let helper = self.helper.lock();
        Duration::from_nanos(helper.past + helper.seen)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.seq.load(Ordering::SeqCst) % 2 == 1
    }

    /// Use of the running activation; `None` when idle, or when it changed while being read.
    pub(crate) fn usage(&self) -> Option<ActivationUsage> {
        let seq = self.seq.load(Ordering::SeqCst);
        if seq.is_multiple_of(2) {
            return None;
        }
        let began_cpu = self.began_cpu.load(Ordering::Relaxed);
        let began_at = self.began_at.load(Ordering::Relaxed);
        let total_before = self.total_before.load(Ordering::Relaxed);
        let held = self.held.load(Ordering::Relaxed) + self.waiting_now();
        let elapsed = now_ns().saturating_sub(began_at).saturating_sub(held);
        // Where another thread's clock cannot be read, elapsed time stands for CPU time: never less.
        let cpu = self
            .clock
            .get()
            .and_then(|clock| clock.read())
            .map_or(elapsed, |cpu| nanos(cpu).saturating_sub(began_cpu));
        (self.seq.load(Ordering::SeqCst) == seq).then(|| ActivationUsage {
            cpu: Duration::from_nanos(cpu),
            cpu_total: Duration::from_nanos(total_before.saturating_add(cpu)),
            elapsed: Duration::from_nanos(elapsed),
        })
    }

    /// CPU time over the isolate's life, and of the running or else the last activation.
    pub(crate) fn cpu(&self) -> (Duration, Duration) {
        match self.usage() {
            Some(usage) => (usage.cpu_total, usage.cpu),
            None => (
                Duration::from_nanos(self.total_before.load(Ordering::Relaxed)),
                Duration::from_nanos(self.last_cpu.load(Ordering::Relaxed)),
            ),
        }
    }

    /// Whether the CPU share is used up; charges what has been used since the last call.
    pub(crate) fn over_share(&self) -> bool {
        if self.hold.share >= CpuShare::FULL {
            return false;
        }
        match self.clock.get().and_then(|clock| clock.read()) {
            Some(cpu) => self.charge(nanos(cpu)) < 0.0,
            None => false,
        }
    }

    fn charge(&self, cpu: u64) -> f64 {
        let mut state = self.hold.state.lock();
        self.refill(&mut state);
        state.budget -= cpu.saturating_sub(state.charged) as f64;
        state.charged = state.charged.max(cpu);
        state.budget
    }

    fn refill(&self, state: &mut HoldState) {
        let share = self.hold.share.fraction();
        let now = now_ns();
        let earned = now.saturating_sub(state.filled) as f64 * share;
        state.filled = now;
        state.budget = (state.budget + earned).min(share * BURST * 1e9);
    }

    /// Takes the isolate's CPU slot away or gives it back.
    pub(crate) fn set_preempted(&self, preempted: bool) {
        let mut state = self.hold.state.lock();
        if state.preempted != preempted {
            state.preempted = preempted;
            self.hold.change.notify_all();
        }
    }

    pub(crate) fn is_preempted(&self) -> bool {
        self.hold.state.lock().preempted
    }

    /// Lets a held thread go, for good.
    pub(crate) fn release(&self) {
        self.hold.state.lock().released = true;
        self.hold.change.notify_all();
    }

    fn waiting_now(&self) -> u64 {
        let state = self.hold.state.lock();
        state
            .waiting_since
            .map_or(0, |since| now_ns().saturating_sub(since))
    }

    /// Waits, on the isolate's own thread, as long as it is held back.
    pub(crate) fn wait_for_slot(&self) {
        let share = self.hold.share.fraction();
        self.waiting(|state| {
            loop {
                self.refill(state);
                if state.released {
                    return;
                }
                if state.preempted {
                    self.hold.change.wait(state);
                } else if state.budget < 0.0 {
                    let wait = Duration::from_nanos((-state.budget / share) as u64 + 1);
                    self.hold.change.wait_for(state, wait);
                } else {
                    return;
                }
            }
        });
    }

    fn waiting(&self, wait: impl FnOnce(&mut parking_lot::MutexGuard<'_, HoldState>)) {
        let mut state = self.hold.state.lock();
        let since = now_ns();
        state.waiting_since = Some(since);
        wait(&mut state);
        state.waiting_since = None;
        self.held
            .fetch_add(now_ns().saturating_sub(since), Ordering::Relaxed);
    }

    /// Runs `wait`, in which the thread waits for the host; that time is not the guest's.
    pub(crate) fn held_by_host<T>(&self, wait: impl FnOnce() -> T) -> T {
        let since = now_ns();
        self.hold.state.lock().waiting_since = Some(since);
        let result = wait();
        self.hold.state.lock().waiting_since = None;
        self.held
            .fetch_add(now_ns().saturating_sub(since), Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    fn burn(cpu: Duration) {
        let until = CpuClock::now() + cpu;
        while CpuClock::now() < until {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn activity_counts_cpu_of_activations_only() {
        let activity = Activity::new(CpuShare::FULL);
        activity.begin();
        burn(Duration::from_millis(5));
        assert!(activity.usage().unwrap().cpu >= Duration::from_millis(5));
        let used = activity.end();
        burn(Duration::from_millis(5));
        assert!(activity.usage().is_none());
        let (total, last) = activity.cpu();
        assert_eq!((total, last), (used, used));
    }

    #[test]
    fn helper_that_waits_for_a_processor_is_not_idle() {
        let activity = &Activity::new(CpuShare::FULL);
        let asked = Arc::new(AtomicU64::new(0));
        let (work, works) = channel();
        let (done, is_done) = channel();
        std::thread::scope(|scope| {
            let of_helper = Arc::clone(&asked);
            scope.spawn(move || {
                let ask = move || _ = of_helper.fetch_add(1, Ordering::SeqCst);
                activity.set_helper(CpuClock::of_this_thread(), Box::new(ask));
                for is_last in works {
                    burn(Duration::from_millis(5));
                    if is_last {
                        activity.helper_is_idle();
                    }
                    done.send(()).unwrap();
                }
            });
            // A thread that waits uses as little as one that the kernel keeps waiting.
            let pause = |is_last: bool| {
                work.send(is_last).unwrap();
                is_done.recv().unwrap();
                let mut before = activity.sample_helper();
                loop {
                    std::thread::yield_now();
                    let now = activity.sample_helper();
                    if now.1 == before.1 {
                        return now.0;
                    }
                    before = now;
                }
            };
            let (five, ten) = (Duration::from_millis(5), Duration::from_millis(10));
            assert!(pause(false) >= five);
            assert!(pause(false) >= ten);
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            assert!(pause(true) < five);
            assert!(pause(false) < ten);
            assert_eq!(asked.load(Ordering::SeqCst), 2);
            drop(work);
        });
    }

    #[test]
    fn activity_stopped_clocks_count_nothing() {
        let activity = Activity::new(CpuShare::FULL);
        let (began, began_cpu) = (Instant::now(), CpuClock::now());
        activity.begin();
        activity.stop_clocks();
        let (stopped, stopped_cpu) = (Instant::now(), CpuClock::now());
        activity.stop_clocks();
        burn(Duration::from_millis(10));
        assert!(!activity.restart_clocks());
        burn(Duration::from_millis(10));
        assert!(activity.usage().is_none());
        let (stopped, stopped_cpu) = (stopped.elapsed(), CpuClock::now() - stopped_cpu);
        assert!(activity.restart_clocks());
        let usage = activity.usage().unwrap();
        assert!(
            usage.cpu <= CpuClock::now() - began_cpu - stopped_cpu,
            "{usage:?}"
        );
        assert!(usage.elapsed <= began.elapsed() - stopped, "{usage:?}");
    }

    #[test]
    fn activity_sample_that_was_asked_for_before_is_not_of_now() {
        let activity = Activity::new(CpuShare::FULL);
        activity.begin();
        assert!(!activity.ask_for_sample());
        activity.set_sampled(true);
        assert!(activity.ask_for_sample() && activity.is_sample_of_now());
        activity.end();
        activity.begin();
        assert!(!activity.is_sample_of_now());
    }

    #[test]
    fn activity_over_share_waits_outside_elapsed_time() {
        let Some(share) = CpuShare::new(0.5) else {
            panic!("in range")
        };
        let activity = Activity::new(share);
        let start = now_ns();
        for _ in 0..4 {
            activity.begin();
            burn(Duration::from_millis(25));
            activity.over_share();
            activity.wait_for_slot();
            activity.end();
        }
        // 100 ms of work at half a core, less one burst of 25 ms, take 150 ms.
        assert!(now_ns() - start >= 145_000_000);
    }
}
