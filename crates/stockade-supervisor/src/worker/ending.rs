//! Why a worker ended, from what the kernel says.

use stockade_jail::{EXIT_MEMORY, Exit, ExitStatus, OVERHEAD};

use crate::end::TerminateReason;

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;

/// How far above its limit the memory of a worker is to which the kernel gives no more. Code that does not look
/// whether it got memory ends by a fault there; below it, a fault is one.
const EXHAUSTED: u64 = OVERHEAD / 4 * 3;

/// The reason and its detail. Engines and allocators answer a refused allocation by breaking
/// themselves: where the worker had come near its limit, that was the cause.
pub(super) fn of(exit: &Exit, memory: Option<u64>) -> (TerminateReason, String) {
    let out_of_memory = || (TerminateReason::MemoryLimit, String::new());
    if exit.oom_killed {
        return out_of_memory();
    }
    match exit.status {
        ExitStatus::Exited(EXIT_MEMORY) => out_of_memory(),
        ExitStatus::Exited(code) => (
            TerminateReason::Crashed,
            format!("its process ended with exit code {code}"),
        ),
        ExitStatus::Signaled(SIGSYS) => (
            TerminateReason::PolicyViolation,
            "system call of another architecture".to_owned(),
        ),
        ExitStatus::Signaled(SIGILL | SIGTRAP | SIGABRT)
            if memory.is_some_and(|limit| exit.max_rss >= limit) =>
        {
            out_of_memory()
        }
        ExitStatus::Signaled(SIGSEGV | SIGBUS)
            if memory.is_some_and(|limit| exit.max_rss >= limit.saturating_add(EXHAUSTED)) =>
        {
            out_of_memory()
        }
        ExitStatus::Signaled(signal) => (TerminateReason::Crashed, signal_name(signal)),
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn exit(status: ExitStatus, max_rss: u64) -> Exit {
        Exit {
            status,
            max_rss,
            cpu: Duration::ZERO,
            oom_killed: false,
        }
    }

    #[test]
    fn ending_abort_near_limit_is_for_memory() {
        let limit = Some(64 << 20);
        let abort = ExitStatus::Signaled(SIGABRT);
        assert_eq!(
            of(&exit(abort, 80 << 20), limit).0,
            TerminateReason::MemoryLimit
        );
        assert_eq!(
            of(&exit(abort, 20 << 20), limit),
            (TerminateReason::Crashed, "SIGABRT".to_owned())
        );
        assert_eq!(of(&exit(abort, 80 << 20), None).0, TerminateReason::Crashed);
    }

    #[test]
    fn ending_segmentation_fault_is_a_crash_unless_memory_was_exhausted() {
        let fault = ExitStatus::Signaled(SIGSEGV);
        let limit = 64 << 20;
        let crash = (TerminateReason::Crashed, "SIGSEGV".to_owned());
        assert_eq!(of(&exit(fault, limit + EXHAUSTED - 1), Some(limit)), crash);
        assert_eq!(of(&exit(fault, u64::MAX), None), crash);
        assert_eq!(
            of(&exit(fault, limit + EXHAUSTED), Some(limit)).0,
            TerminateReason::MemoryLimit
        );
    }
}
