//! Why a worker ended, from what the kernel says.

use stockade_jail::{EXIT_MEMORY, Exit, ExitStatus};

use crate::end::TerminateReason;

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;

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
    fn ending_segmentation_fault_is_a_crash_whatever_memory() {
        let fault = ExitStatus::Signaled(11);
        assert_eq!(
            of(&exit(fault, u64::MAX), Some(1)),
            (TerminateReason::Crashed, "SIGSEGV".to_owned())
        );
    }
}
