//! Ends, signals and clocks of processes.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

/// Ends the process at once: no destructors, no handlers of exit(3).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// A child that has ended, as wait4(2) reports.
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    /// As `waitpid` gives it.
    pub(crate) status: i32,
    /// Largest resident set in bytes.
    pub(crate) max_rss: u64,
    /// User and system time.
    pub(crate) cpu: Duration,
}

/// Reaps one child that has ended; `None` while none has.
pub(crate) fn reap() -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of a plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that wait4 writes.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if pid <= 0 {
        return None;
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Some(Reaped {
        pid,
        status,
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    })
}

/// Gives every signal its default action, but SIGPIPE, which stays ignored.
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        if signal != libc::SIGPIPE {
            // SAFETY: SIG_DFL needs no handler; numbers that cannot be set are refused and change nothing.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Blocks SIGCHLD and gives a descriptor that becomes readable when one is pending.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is a valid value of a plain C struct; sigemptyset then sets it up.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset_t in all three calls; a null old set is allowed.
    let fd = unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets all signals through again.
pub(crate) fn unblock_signals() {
    // SAFETY: as in `child_signals`.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Has a write beyond RLIMIT_FSIZE fail with EFBIG, where the default is to end the process.
pub(crate) fn ignore_large_files() {
    // SAFETY: SIG_IGN needs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

extern "C" fn aborted(_: libc::c_int) {
    exit_now(crate::worker::EXIT_ABORT)
}

/// Has SIGABRT end the process with `EXIT_ABORT`.
///
/// The first process of a PID namespace does not die of signals it sends itself (pid_namespaces(7)), so
/// abort(3) would go on to an illegal instruction and hide what happened.
pub(crate) fn exit_on_abort() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = aborted;
    // SAFETY: the handler only calls _exit, which is async-signal-safe.
    let before = unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// CPU time of a process of this PID namespace, `None` when there is none with this id.
pub(crate) fn cpu_time(pid: i32) -> Option<Duration> {
    // linux/posix-timers.h: the low two bits are CPUCLOCK_SCHED, bit 2 unset means the whole process, the
    // rest is the complement of the id.
    let clock = (!pid << 3) | 2;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec; an unknown clock is refused.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(Duration::new(
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    ))
}
