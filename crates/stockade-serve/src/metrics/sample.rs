//! What a site has counted, since its start and in one interval.

use std::time::Duration;

/// What a site has counted since its start.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    /// Requests with a status of 500 or more.
    pub(super) errors: u64,
    pub(super) cpu: Duration,
    /// Ends of mirrors that an operator wants to know of, by reason.
    pub(super) kills: Vec<(&'static str, u64)>,
}

/// What happened in one interval.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// Requests with a status of 500 or more.
    pub(crate) errors: u64,
    /// The duration that half of the requests did not exceed, in milliseconds; none without requests.
    pub(crate) p50: Option<f64>,
    /// The duration that 99 of a hundred requests did not exceed, in milliseconds; none without requests.
    pub(crate) p99: Option<f64>,
    /// CPU time of all mirrors.
    pub(crate) cpu: Duration,
    /// Bytes of all mirrors at its end.
    pub(crate) memory: u64,
    /// Mirrors at its end.
    pub(crate) mirrors: usize,
    /// Requests without a response at its end.
    pub(crate) in_flight: usize,
    /// Requests that waited for a mirror at its end.
    pub(crate) queued: usize,
    /// Mirrors that were ended for a reason that an operator wants to know, by reason.
    pub(crate) kills: Vec<(&'static str, u64)>,
}
