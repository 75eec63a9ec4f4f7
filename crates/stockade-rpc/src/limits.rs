//! What callers may use.

use std::time::Duration;

/// Bounds of a server. What is beyond one is refused with an error, never queued without end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcLimits {
    /// Connections at the same time, over all listeners.
    pub connections: usize,
    /// Bytes of a request, or of a whole batch.
    pub request_bytes: u32,
    /// Bytes of a response, or of a whole batch's.
    pub response_bytes: u32,
    /// Calls in the guest at the same time.
    pub concurrent: usize,
    /// Calls in one batch. They run one after the other.
    pub batch: u32,
    /// Wait for the reply to a request or a whole batch; `None` waits as long as the isolate lives.
    pub timeout: Option<Duration>,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            request_bytes: 1 << 20,
            response_bytes: 10 << 20,
            concurrent: 64,
            batch: 1000,
            timeout: Some(Duration::from_secs(30)),
        }
    }
}
