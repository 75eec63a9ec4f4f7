//! This process and signals to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deno_core::{OpState, op2};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whether the script listens to SIGINT itself, so that Ctrl-C must not end the run. Shared with the
/// thread that receives signals.
#[derive(Debug, Clone, Default)]
pub struct InterruptsTaken(Arc<AtomicBool>);

impl InterruptsTaken {
    /// Whether the script has a listener for SIGINT now.
    #[must_use]
    pub fn by_script(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum KillError {
    #[class(type)]
    #[error(transparent)]
    Name(#[from] deno_signals::InvalidSignalStrError),
    #[class(type)]
    #[error("there is no {0}")]
    NoSignal(String),
    #[class("NotFound")]
    #[error("no process has the id {0}")]
    NoProcess(i32),
    #[class("PermissionDenied")]
    #[error("not allowed to send {signal} to process {pid}")]
    NotAllowed { signal: String, pid: i32 },
    #[class(generic)]
    #[error("sending {signal} to process {pid} failed: {errno}")]
    Other {
        signal: String,
        pid: i32,
        errno: Errno,
    },
}

#[op2(fast)]
pub(crate) fn op_host_interrupts_taken(state: &mut OpState, taken: bool) {
    let interrupts = state.borrow::<InterruptsTaken>();
    interrupts.0.store(taken, Ordering::Release);
}

#[op2(fast)]
pub(crate) fn op_host_kill(#[smi] pid: i32, #[string] signal: String) -> Result<(), KillError> {
    let number = deno_signals::signal_str_to_int(&signal)?;
    send(pid, number, signal)
}

/// As [`op_host_kill`]; 0 sends nothing and says whether it could be sent.
#[op2(fast)]
pub(crate) fn op_host_kill_by_number(#[smi] pid: i32, #[smi] number: i32) -> Result<(), KillError> {
    send(pid, number, format!("signal {number}"))
}

fn send(pid: i32, number: i32, signal: String) -> Result<(), KillError> {
    let known = match number {
        0 => Ok(None),
        number => Signal::try_from(number).map(Some),
    };
    match known.and_then(|signal| kill(Pid::from_raw(pid), signal)) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(KillError::NoProcess(pid)),
        Err(Errno::EPERM) => Err(KillError::NotAllowed { signal, pid }),
        Err(Errno::EINVAL) => Err(KillError::NoSignal(signal)),
        Err(errno) => Err(KillError::Other { signal, pid, errno }),
    }
}

#[op2(fast)]
#[smi]
pub(crate) fn op_host_pid() -> u32 {
    std::process::id()
}

#[op2(fast)]
#[smi]
pub(crate) fn op_host_ppid() -> u32 {
    std::os::unix::process::parent_id()
}
