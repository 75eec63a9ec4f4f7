//! What a way of running workers must offer.

use std::os::fd::OwnedFd;
use std::time::Duration;

use stockade_limits::{IsolateOptions, Isolation};

use crate::end::TerminateReason;
use crate::start_error::StartError;

/// A running worker: a process, or a machine that runs one. Dropping it kills the worker. No method waits.
pub trait WorkerProcess: Send + Sync {
    /// Ends the worker with all that it holds. Does nothing when it has ended.
    fn kill(&self);

    /// Stops all threads of the worker until [`WorkerProcess::resume`].
    fn pause(&self);

    /// Lets the worker go on after [`WorkerProcess::pause`].
    fn resume(&self);

    /// CPU time of all threads of the worker so far; `None` once it has ended.
    fn cpu_time(&self) -> Option<Duration>;

    /// Lets the worker use more memory than its limit until [`WorkerProcess::return_memory`], and gives how many bytes more;
    /// 0 where that is not possible. The one method that waits, for the launcher of workers.
    fn lend_memory(&self) -> u64 {
        0
    }

    /// Holds the worker to its limit again. False if it still has more in use than it may, and is to be ended for it.
    fn return_memory(&self) -> bool {
        true
    }

    /// Whether the worker, which was held to its limit again, keeps to it.
    fn keeps_to_memory(&self) -> bool {
        true
    }
}

/// Starts workers of one isolation level.
pub trait WorkerLauncher: Send + Sync + 'static {
    /// What a worker is started with. Isolates with equal specifications may run in the same worker.
    type Spec: Clone + PartialEq + Send + 'static;

    /// The level of the isolates in its workers.
    fn isolation(&self) -> Isolation;

    /// The worker for up to `isolates` isolates with these options.
    fn spec(&self, options: &IsolateOptions, isolates: u32) -> Self::Spec;

    /// Starts a worker and returns once it exists. It may be sealed later, and sends its events in any case; after
    /// an error it sends none.
    ///
    /// # Errors
    /// When the worker cannot be started.
    fn launch(&self, spec: &Self::Spec, events: WorkerEvents)
    -> Result<LaunchedWorker, StartError>;
}

/// Where the events of one worker go; called from any thread, and never waits.
pub type WorkerEvents = Box<dyn Fn(WorkerEvent) + Send + Sync>;

/// A worker and the supervisor's end of its socket, a stream over which the frames of
/// [`stockade_protocol::frame`] pass.
pub struct LaunchedWorker {
    /// The worker.
    pub process: Box<dyn WorkerProcess>,
    /// A connected stream socket.
    pub socket: OwnedFd,
}

/// What happens to a worker, from the launcher that watches it. What the worker says of itself comes over its
/// socket.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// The worker is sealed: messages may be sent to it.
    Sealed,
    /// An isolation layer could not be set up. The worker ends.
    Failed(StartError),
    /// The worker tried what its isolation forbids, which this describes. It is being killed for it.
    Violated(String),
    /// The worker has ended. The last event, exactly once.
    Exited(WorkerExit),
}

/// How a worker ended, by the launcher that watched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerExit {
    /// Why.
    pub cause: ExitCause,
    /// The most memory that it held, in bytes.
    pub peak_memory: u64,
    /// CPU time of all its threads.
    pub cpu: Duration,
}

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitCause {
    /// It had no more memory.
    OutOfMemory,
    /// It did what its isolation forbids, which this describes.
    Violated(String),
    /// It broke down. Engines and allocators answer a refused allocation by breaking themselves.
    Crashed {
        /// How, for a person.
        detail: String,
        /// How far above its memory limit the worker must have been for memory to be the cause; `None` where it
        /// is never.
        exhausted_above: Option<u64>,
    },
}

impl WorkerExit {
    /// Why an isolate with this memory limit ended, and the detail of it.
    pub(super) fn reason(&self, memory: Option<u64>) -> (TerminateReason, String) {
        match &self.cause {
            ExitCause::OutOfMemory => (TerminateReason::MemoryLimit, String::new()),
            ExitCause::Violated(detail) => (TerminateReason::PolicyViolation, detail.clone()),
            ExitCause::Crashed {
                exhausted_above: Some(above),
                ..
            } if memory.is_some_and(|limit| self.peak_memory >= limit.saturating_add(*above)) => {
                (TerminateReason::MemoryLimit, String::new())
            }
            ExitCause::Crashed { detail, .. } => (TerminateReason::Crashed, detail.clone()),
        }
    }
}
