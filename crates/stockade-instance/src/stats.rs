//! What an instance is doing now.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

/// Where a mirror is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MirrorState {
    /// Its isolate is being created, or its code loaded.
    Starting,
    /// It takes requests.
    Ready,
    /// It takes no more requests and ends with the last it has.
    Draining,
}

impl MirrorState {
    /// For logs and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What one mirror is doing now.
#[derive(Debug, Clone)]
pub struct MirrorStats {
    /// Its number.
    pub mirror: u32,
    /// Where it is in its life.
    pub state: MirrorState,
    /// Requests that it handles.
    pub in_flight: usize,
    /// Requests that it was given since its start.
    pub requests: u64,
    /// Open WebSockets.
    pub sockets: usize,
    /// CPU time over its life.
    pub cpu: Duration,
    /// Bytes of memory, when last measured.
    pub memory: u64,
    /// Since it was started.
    pub age: Duration,
    /// A debugger is attached.
    pub debugged: bool,
}

/// What an instance is doing now.
#[derive(Debug, Clone, Default)]
pub struct InstanceStats {
    /// Every mirror there is.
    pub mirrors: Vec<MirrorStats>,
    /// How many are wanted.
    pub wanted: usize,
    /// Whether it takes no more requests and ends with the last it has.
    pub draining: bool,
    /// Whether a mirror takes requests. With [`stockade_limits::Fresh::Request`] all may be in use at a moment: then
    /// whether the last attempt to start one succeeded.
    pub serves: bool,
    /// Requests that wait for a mirror with room.
    pub queued: usize,
    /// Requests that mirrors handle.
    pub in_flight: usize,
    /// CPU time of all mirrors there ever were.
    pub cpu: Duration,
    /// Mirrors that ended in a row without having lived for long; 0 when all is well.
    pub crashes_in_a_row: u32,
    /// Why the last attempt to start a mirror failed, until one succeeds.
    pub start_error: Option<String>,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Requests that the deadline cut short.
    pub requests_cut: usize,
    /// WebSockets that the deadline cut short.
    pub sockets_cut: usize,
    /// `waitUntil` promises' requests that the deadline cut short.
    pub background_cut: usize,
}
