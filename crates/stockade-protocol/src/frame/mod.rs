//! What supervisor and worker process say to each other, as bytes.
//!
//! A frame is the length of its header (4 bytes, little-endian), the header (postcard: the kind, ids,
//! names, and the lengths of what follows), and the bulk: JSON text, code, texts and binary parts, one
//! after the other, as they are. Large data is neither encoded again nor copied more than once.
//!
//! Invariants:
//! 1. [`Reader`] treats every byte as hostile. Lengths are checked before anything is allocated, and
//!    no more is allocated than twice what was received and one step.
//! 2. Texts that come from a worker are within [`bounds`](crate::bounds) and harmless once read.
//! 3. What [`Reader`] refuses, [`check`] names at the sender.
//!
//! Deliberately absent: sockets, and what the ids stand for. Whether an id was ever given, and whether
//! JSON text is JSON, is for the receiver of the message.

mod decode;
mod encode;
mod error;
mod head;
mod incoming;
mod outgoing;
mod reader;

use crate::message::{FromIsolate, ToIsolate};
use crate::probe::{Finding, ProbeId, ProbeOrder};

pub use encode::{Encoded, MAX_SLICES, append, bulk_size, check, encode};
pub use error::FrameError;
pub use head::{Frame, Outgoing};
pub use outgoing::BorrowedControl;
pub use reader::Reader;

/// Supervisor to worker.
#[derive(Debug)]
pub enum ToWorker {
    /// Starts an isolate.
    Start {
        /// Its number from now on.
        isolate: u32,
        /// Its options, as `IsolateOptions::to_wire` writes them; at most
        /// [`MAX_OPTIONS_BYTES`](crate::bounds::MAX_OPTIONS_BYTES).
        options: String,
    },
    /// For one isolate.
    Message {
        /// Which.
        isolate: u32,
        /// The message.
        message: ToIsolate,
    },
    /// Ends an isolate.
    End {
        /// Which.
        isolate: u32,
    },
    /// Begins or ends a probe of an isolate.
    Probe {
        /// Which.
        isolate: u32,
        /// The number of the probe.
        id: ProbeId,
        /// What to do.
        order: ProbeOrder,
    },
    /// A message of a debugger to an isolate.
    Debug {
        /// Which.
        isolate: u32,
        /// The number of the debugger's session.
        id: ProbeId,
        /// In the DevTools protocol; at most [`MAX_DEBUG_BYTES`](crate::bounds::MAX_DEBUG_BYTES).
        text: String,
    },
}

/// Worker to supervisor. Hostile: see the module's invariants.
#[derive(Debug)]
pub enum FromWorker {
    /// The worker is sealed: an isolate can be started.
    Ready,
    /// The answer to [`ToWorker::Start`].
    Started {
        /// Which.
        isolate: u32,
        /// Why it was not started.
        problem: Option<StartFailure>,
    },
    /// A message of one isolate.
    Message {
        /// Which.
        isolate: u32,
        /// What it says.
        message: FromIsolate,
    },
    /// The isolate is done with messages: their places in the queue are free.
    Taken {
        /// Which.
        isolate: u32,
        /// How many.
        messages: u32,
        /// What they held together.
        bytes: u64,
    },
    /// How an isolate is doing.
    State {
        /// Which.
        isolate: u32,
        /// Whether it has nothing to do but wait for messages.
        idle: bool,
        /// Messages it had taken by then.
        seen: u64,
        /// CPU time over its life.
        cpu_ns: u64,
        /// Bytes of memory it holds.
        memory: u64,
    },
    /// The worker's own runtime has ended an isolate.
    Ended {
        /// Which.
        isolate: u32,
        /// Why.
        termination: Termination,
    },
    /// Nothing of an isolate runs any more.
    Left {
        /// Which.
        isolate: u32,
    },
    /// What a probe comes to.
    Found {
        /// The number of the isolate.
        isolate: u32,
        /// The number of the probe.
        id: ProbeId,
        /// A piece of it, or its end.
        finding: Finding,
    },
}

/// Why an isolate could not be started; each text has at most
/// [`MAX_ERROR_BYTES`](crate::bounds::MAX_ERROR_BYTES).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartFailure {
    /// What failed.
    pub what: String,
    /// What was checked.
    pub checked: String,
    /// What to do about it.
    pub fix: String,
}

/// Why an isolate was ended, and what it had used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Termination {
    /// Such as `cpu_limit_exceeded`; at most [`MAX_REASON_BYTES`](crate::bounds::MAX_REASON_BYTES).
    pub reason: String,
    /// More, for a person; at most [`MAX_ERROR_BYTES`](crate::bounds::MAX_ERROR_BYTES).
    pub detail: String,
    /// CPU time of the activation that was running.
    pub cpu_ns: u64,
    /// CPU time over its life.
    pub cpu_total_ns: u64,
    /// Elapsed time of the activation.
    pub wall_ns: u64,
    /// Bytes of memory it held.
    pub memory: u64,
}

#[cfg(test)]
mod tests;
