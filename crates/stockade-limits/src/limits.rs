//! The limits of an isolate.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The least memory limit: V8 itself, the startup snapshot and one young generation need this much.
pub const MIN_MEMORY: u64 = 8 << 20;

/// The highest memory limit, in megabytes of 2^20 bytes.
pub const MAX_MEMORY_MB: f64 = 1e7;

/// The least limit of CPU time or elapsed time: the limit watchdog looks once in a millisecond.
pub const MIN_TIME: Duration = Duration::from_millis(1);

/// The least wall limit that is derived from a CPU limit.
pub const MIN_WALL_TIME_DEFAULT: Duration = Duration::from_secs(5);

/// The most requests of one isolate that may wait for the host's answer.
pub const MAX_PENDING_REQUESTS: u32 = 1 << 14;

/// The highest limit on what a guest asks of its host each second.
pub const MAX_IO_OPS: u32 = 1_000_000;

/// The lowest limit on the bytes of it: the largest message passes within days.
pub const MIN_IO_BYTES: u64 = 1 << 10;

/// The highest limit on the bytes of it.
pub const MAX_IO_BYTES: u64 = 1_000_000_000_000;

/// A share of one core, in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct CpuShare(f64);

impl CpuShare {
    /// One whole core.
    pub const FULL: Self = Self(1.0);

    /// Checks that `share` lies in (0, 1]; `None` otherwise.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share as a fraction of one core.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0
    }
}

impl From<CpuShare> for f64 {
    fn from(share: CpuShare) -> Self {
        share.0
    }
}

impl TryFrom<f64> for CpuShare {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        Self::new(share).ok_or("a share of one core lies above 0 and is at most 1")
    }
}

/// What an isolate may use; `None` is no limit.
///
/// An *activation* begins when an isolate gets work (code, a message, an answer, a timer that fires)
/// and ends when it is idle again, microtasks drained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time of one activation; at least [`MIN_TIME`].
    pub cpu: Option<Duration>,
    /// CPU time over the isolate's life; at least [`MIN_TIME`].
    pub cpu_total: Option<Duration>,
    /// Share of one core over any second; an isolate above it is slowed down, not ended.
    pub cpu_share: CpuShare,
    /// Elapsed time of one activation, at least [`MIN_TIME`]. Time in which the runtime itself held the isolate back (its
    /// CPU share, a debugger's pause) does not count.
    pub wall: Option<Duration>,
    /// How long either side waits for an answer.
    pub request_timeout: Option<Duration>,
    /// Bytes over JS heap, ArrayBuffers and WebAssembly memory together; at least [`MIN_MEMORY`].
    pub memory: Option<u64>,
    /// What the guest asks of its host (messages, requests, answers, console lines) each second, one
    /// second's worth at once; at most [`MAX_IO_OPS`]. Beyond it the guest waits.
    pub io_ops: Option<NonZeroU32>,
    /// The bytes of it, in the same way; [`MIN_IO_BYTES`] to [`MAX_IO_BYTES`].
    pub io_bytes: Option<NonZeroU64>,
    /// The guest's requests that may wait for an answer; 1 to [`MAX_PENDING_REQUESTS`].
    pub pending_requests: u32,
}

impl Default for Limits {
    /// The defaults of `stockade run`: 500 ms of CPU an activation, no memory limit.
    fn default() -> Self {
        let cpu = Some(Duration::from_millis(500));
        Self {
            cpu,
            cpu_total: None,
            cpu_share: CpuShare::FULL,
            wall: Self::wall_limit_for(cpu),
            request_timeout: None,
            memory: None,
            io_ops: None,
            io_bytes: None,
            pending_requests: MAX_PENDING_REQUESTS,
        }
    }
}

impl Limits {
    /// The wall limit that goes with a CPU limit where none is given: ten times as long, at least
    /// [`MIN_WALL_TIME_DEFAULT`]; none where the CPU is not limited either.
    #[must_use]
    pub fn wall_limit_for(cpu: Option<Duration>) -> Option<Duration> {
        cpu.map(|cpu| cpu.saturating_mul(10).max(MIN_WALL_TIME_DEFAULT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_limit_for_short_cpu_limit_is_five_seconds() {
        assert_eq!(
            Limits::wall_limit_for(Some(Duration::from_millis(10))),
            Some(MIN_WALL_TIME_DEFAULT)
        );
        assert_eq!(
            Limits::wall_limit_for(Some(Duration::from_secs(2))),
            Some(Duration::from_secs(20))
        );
        assert_eq!(Limits::wall_limit_for(None), None);
    }

    #[test]
    fn cpu_share_outside_range_is_refused() {
        for share in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(CpuShare::new(share), None, "{share}");
        }
        assert_eq!(CpuShare::new(0.25).map(CpuShare::fraction), Some(0.25));
    }
}
