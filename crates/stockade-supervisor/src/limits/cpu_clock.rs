//! The CPU time of one thread, readable from any other.

use std::time::Duration;

/// A thread's CPU clock.
///
/// On Linux any thread may read it (clock_getres(2), "CPU-time clocks": the id is made from the
/// thread id as `pthread_getcpuclockid(3)` makes it). Elsewhere only the thread itself can, and
/// [`CpuClock::read`] from another thread gives `None`: limits then fall back on elapsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuClock(i32);

#[cfg(target_os = "linux")]
impl CpuClock {
    /// The clock of the calling thread.
    #[must_use]
    pub fn of_this_thread() -> Self {
        // linux/posix-timers.h: the low three bits are CPUCLOCK_PERTHREAD_MASK (4) | CPUCLOCK_SCHED (2),
        // the rest is the complement of the thread id.
        Self((!nix::unistd::gettid().as_raw() << 3) | 6)
    }

    /// CPU time of the thread so far; `None` once the thread has ended.
    #[must_use]
    pub fn read(self) -> Option<Duration> {
        let time = nix::time::ClockId::from_raw(self.0).now().ok()?;
        Some(Duration::from(time))
    }

    /// CPU time of the calling thread so far.
    #[must_use]
    pub fn now() -> Duration {
        nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID
            .now()
            .map(Duration::from)
            .unwrap_or_default()
    }
}

#[cfg(not(target_os = "linux"))]
impl CpuClock {
    /// The clock of the calling thread.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self(0)
    }

    /// Always `None`: this system has no way to read another thread's clock by id.
    #[must_use]
    pub fn read(self) -> Option<Duration> {
        None
    }

    /// CPU time of the calling thread so far.
    #[must_use]
    pub fn now() -> Duration {
        nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID
            .now()
            .map(Duration::from)
            .unwrap_or_default()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn cpu_clock_of_other_thread_counts_its_work_not_its_sleep() {
        let (send, recv) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let clock = CpuClock::of_this_thread();
            while CpuClock::now() < Duration::from_millis(20) {
                std::hint::black_box(0);
            }
            send.send(clock).unwrap();
            let _ = stopped.recv();
        });
        let clock = recv.recv().unwrap();
        let first = clock.read().unwrap();
        assert!(first >= Duration::from_millis(20));
        stop.send(()).unwrap();
        thread.join().unwrap();
        // A joined thread is still in the kernel for a moment.
        while clock.read().is_some() {
            std::thread::yield_now();
        }
    }
}
