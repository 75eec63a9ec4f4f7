//! Reaching into a running isolate from another thread.

use std::time::Duration;

use stockade_protocol::{ProbeId, ProbeOrder};

use crate::end::{ResourceUsage, TerminateReason};

/// Reaches into a running isolate from another thread. All methods may be called at any time, also
/// after the isolate is gone.
pub trait InterruptHandle: Send + Sync {
    /// Ends the running JavaScript at the next point where the engine checks for interrupts. Called again until
    /// the isolate's guest context is dropped.
    fn terminate(&self);

    /// Makes the isolate's thread call [`GuestContext::checkpoint`](crate::GuestContext::checkpoint) at the next
    /// point where the engine checks for interrupts.
    fn interrupt(&self);

    /// Passes an order on to the isolate's process; false for an isolate in this one. Waits for the launcher of workers
    /// where the order is for a heap snapshot, and else for nothing.
    fn order(&self, _id: ProbeId, _order: ProbeOrder) -> bool {
        false
    }

    /// Passes a debugger's message on to the isolate's process.
    fn debug(&self, _id: ProbeId, _text: String) {}

    /// CPU time of an isolate in another process over its life, by the kernel's clock, now; `None` for one in this
    /// process, and where the clock is gone.
    fn cpu(&self) -> Option<Duration> {
        None
    }

    /// What is known of the isolate from outside its process; `None` for one in this process.
    fn outside(&self) -> Option<Outside> {
        None
    }
}

/// What the supervisor knows of an isolate that runs in another process, without asking it.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// What it has used.
    pub usage: ResourceUsage,
    /// It has work, as far as is known here.
    pub busy: bool,
    /// A limit that it is over although its own process should have ended it before.
    pub overrun: Option<(TerminateReason, String)>,
}
