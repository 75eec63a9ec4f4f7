//! Workers that `stockade-jail` confines: isolation levels `process` and `container`.

use std::time::Duration;

use stockade_jail::{
    CODE_RANGE, CgroupUse, EXIT_MEMORY, Exit, ExitStatus, JailError, JailEvent, JailSpec, Launcher,
    Level, OVERHEAD, Role, Worker, Wx,
};
use stockade_limits::{CpuShare, IsolateOptions, Isolation};

use super::process::{
    ExitCause, LaunchedWorker, WorkerEvent, WorkerEvents, WorkerExit, WorkerLauncher, WorkerProcess,
};
use crate::start_error::StartError;

/// Threads of a worker besides two for each isolate: main, the watchdog, and in a trust group the engine's helpers;
/// with some to spare.
const THREADS: u32 = 12;

/// How far above its limit the memory of a worker is to which the kernel gives no more. Code that does not check
/// whether it got memory ends by a fault there; below it, a fault is one.
const EXHAUSTED: u64 = OVERHEAD / 4 * 3;

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;

/// Starts workers of one level, by the launcher of this process.
pub struct JailLauncher {
    level: Level,
}

impl JailLauncher {
    /// A launcher of this level. Starts nothing before the first worker.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self { level }
    }
}

impl WorkerLauncher for JailLauncher {
    type Spec = JailSpec;

    fn isolation(&self) -> Isolation {
        match self.level {
            Level::Process => Isolation::Process,
            Level::Container => Isolation::Container,
        }
    }

    fn spec(&self, options: &IsolateOptions, isolates: u32) -> JailSpec {
        let limits = &options.limits;
        JailSpec {
            level: self.level,
            wx: match options.wx {
                stockade_limits::Wx::Jit => Wx::Jit,
                stockade_limits::Wx::Strict => Wx::Strict,
            },
            role: Role::Isolates,
            memory: limits.memory.map(|memory| together(memory, isolates)),
            cpu_share: (limits.cpu_share < CpuShare::FULL && isolates == 1)
                .then(|| limits.cpu_share.fraction()),
            isolates,
            threads: THREADS + 2 * isolates,
            cgroup: match options.cgroup {
                stockade_limits::CgroupUse::Auto => CgroupUse::Auto,
                stockade_limits::CgroupUse::Require => CgroupUse::Require,
            },
            template: options.template.clone(),
        }
    }

    fn launch(&self, spec: &JailSpec, events: WorkerEvents) -> Result<LaunchedWorker, StartError> {
        let on_event = Box::new(move |event: JailEvent| events(event.into()));
        let (worker, socket) = Launcher::get()?.launch(spec, on_event)?;
        Ok(LaunchedWorker {
            process: Box::new(worker),
            socket,
        })
    }
}

/// Memory of `isolates` isolates with this limit: V8 holds each to its own, the kernel all of them to this.
/// Each has room for machine code of its own, of which a worker's limit counts one.
fn together(memory: u64, isolates: u32) -> u64 {
    let code = (CODE_RANGE as u64).saturating_mul(u64::from(isolates.saturating_sub(1)));
    memory
        .saturating_mul(u64::from(isolates))
        .saturating_add(code)
}

impl WorkerProcess for Worker {
    fn kill(&self) {
        Self::kill(self);
    }

    fn pause(&self) {
        Self::pause(self);
    }

    fn resume(&self) {
        Self::resume(self);
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.cpu()
    }

    fn lend_memory(&self) -> u64 {
        Self::lend_memory(self).unwrap_or_else(|error| {
            tracing::warn!(%error, "a worker cannot be lent memory for a heap snapshot");
            0
        })
    }

    fn return_memory(&self) -> bool {
        Self::return_memory(self)
    }

    fn keeps_to_memory(&self) -> bool {
        Self::keeps_to_memory(self)
    }
}

impl From<JailError> for StartError {
    fn from(error: JailError) -> Self {
        Self {
            what: error.what,
            checked: error.checked,
            fix: error.fix,
        }
    }
}

impl From<JailEvent> for WorkerEvent {
    fn from(event: JailEvent) -> Self {
        match event {
            JailEvent::Closed => Self::Sealed,
            JailEvent::Failed(error) => Self::Failed(error.into()),
            JailEvent::Denied(denial) => Self::Violated(format!("system call {denial}")),
            JailEvent::Exited(exit) => Self::Exited(exit.into()),
        }
    }
}

impl From<Exit> for WorkerExit {
    fn from(exit: Exit) -> Self {
        let crashed = |detail, exhausted_above| ExitCause::Crashed {
            detail,
            exhausted_above,
        };
        let cause = match exit.status {
            _ if exit.oom_killed => ExitCause::OutOfMemory,
            ExitStatus::Exited(EXIT_MEMORY) => ExitCause::OutOfMemory,
            ExitStatus::Exited(code) => {
                crashed(format!("its process ended with exit code {code}"), None)
            }
            ExitStatus::Signaled(SIGSYS) => {
                ExitCause::Violated("system call of another architecture".to_owned())
            }
            ExitStatus::Signaled(signal) => crashed(
                signal_name(signal),
                match signal {
                    SIGILL | SIGTRAP | SIGABRT => Some(0),
                    SIGSEGV | SIGBUS => Some(EXHAUSTED),
                    _ => None,
                },
            ),
        };
        Self {
            cause,
            peak_memory: exit.max_rss,
            cpu: exit.cpu,
        }
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::TerminateReason;

    fn of(status: ExitStatus, max_rss: u64, memory: Option<u64>) -> (TerminateReason, String) {
        let exit = Exit {
            status,
            max_rss,
            cpu: Duration::ZERO,
            oom_killed: false,
        };
        WorkerExit::from(exit).reason(memory)
    }

    #[test]
    fn ending_abort_near_limit_is_for_memory() {
        let limit = Some(64 << 20);
        let abort = ExitStatus::Signaled(SIGABRT);
        assert_eq!(of(abort, 80 << 20, limit).0, TerminateReason::MemoryLimit);
        assert_eq!(
            of(abort, 20 << 20, limit),
            (TerminateReason::Crashed, "SIGABRT".to_owned())
        );
        assert_eq!(of(abort, 80 << 20, None).0, TerminateReason::Crashed);
    }

    #[test]
    fn ending_segmentation_fault_is_a_crash_unless_memory_was_exhausted() {
        let fault = ExitStatus::Signaled(SIGSEGV);
        let limit = 64 << 20;
        let crash = (TerminateReason::Crashed, "SIGSEGV".to_owned());
        assert_eq!(of(fault, limit + EXHAUSTED - 1, Some(limit)), crash);
        assert_eq!(of(fault, u64::MAX, None), crash);
        assert_eq!(
            of(fault, limit + EXHAUSTED, Some(limit)).0,
            TerminateReason::MemoryLimit
        );
    }
}
