//! What becomes of a worker, as its supervisor is notified of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::JailError;

/// News of one worker, from the thread that watches them all.
#[derive(Debug, Clone, PartialEq)]
pub enum JailEvent {
    /// The worker is sealed and tested; whatever comes over the message socket from now on is behind
    /// them.
    Closed,
    /// A layer could not be built. The worker ends.
    Failed(JailError),
    /// A system call was refused. The worker has been killed for it.
    Denied(Denial),
    /// The worker has ended and been reaped. The last event, exactly once.
    Exited(Exit),
}

/// A system call that the rules do not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The name of the call, or `number n` for one without.
    pub syscall: String,
    /// The number of the call on this architecture.
    pub number: i32,
    /// The arguments as the worker passed them. Those that point to memory say nothing.
    pub args: [u64; 6],
    /// The id of the calling thread, in the supervisor's PID namespace.
    pub thread: i32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// The kernel's word on a worker that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Largest resident set in bytes, memory shared with other workers included.
    pub max_rss: u64,
    /// CPU time of all its threads, user and system.
    pub cpu: Duration,
    /// The kernel killed it because its cgroup was out of memory.
    pub oom_killed: bool,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}
