//! The numbers an instance holds its mirrors, its queue and its guests to.

use std::time::Duration;

/// What an instance allows. Each mirror's isolate has its own limits in addition.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceLimits {
    /// Requests that one mirror handles at the same time; at least 1. With [`stockade_limits::Fresh::Request`] the
    /// number of mirrors, used and ready, that the instance has at most.
    pub concurrency: usize,
    /// Requests that may wait for a mirror with room.
    pub queue: usize,
    /// How long a request may wait for a mirror with room.
    pub queue_wait: Duration,
    /// How long a mirror may take to be ready for requests.
    pub start: Duration,
    /// How long a guest may take until the head of its response; what it waits for of the request's body
    /// counts, too.
    pub wall: Duration,
    /// How long a guest may take to give up on a request that was aborted before it is counted as stuck.
    pub abort_grace: Duration,
    /// Stuck requests after which a mirror is replaced; at least 1.
    pub stuck: usize,
    /// How long promises given to `ctx.waitUntil` keep a mirror that should end.
    pub wait_until: Duration,
    /// How long a mirror that is being replaced, or not wanted any more, may take for its last requests and
    /// WebSockets.
    pub drain: Duration,
    /// How long a scheduled run may take.
    pub scheduled: Duration,
    /// Bytes of one request's body; `None` is no limit.
    pub request_body: Option<u64>,
    /// Bytes of one response's body; `None` is no limit.
    pub response_body: Option<u64>,
    /// Headers of one response.
    pub response_headers: usize,
    /// Bytes of names and values of one response's headers.
    pub response_header_bytes: usize,
    /// How long either side of a streamed body may leave the other waiting for the next bytes.
    pub stall: Duration,
    /// Streams that one mirror may have open to read; those that it writes are bounded by its runtime.
    pub streams: usize,
    /// Bytes that one mirror has sent and nobody has taken yet. One message of any size may wait.
    pub buffered: usize,
    /// WebSockets of one mirror.
    pub sockets: usize,
    /// Connections of one mirror, those included that are being opened.
    pub pipes: usize,
    /// Bytes of one message of a WebSocket.
    pub socket_message: usize,
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self {
            concurrency: 256,
            queue: 1024,
            queue_wait: Duration::from_secs(10),
            start: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            abort_grace: Duration::from_secs(5),
            stuck: 8,
            wait_until: Duration::from_secs(30),
            drain: Duration::from_secs(60),
            scheduled: Duration::from_secs(15 * 60),
            request_body: Some(100 << 20),
            response_body: None,
            response_headers: 128,
            response_header_bytes: 64 << 10,
            stall: Duration::from_secs(120),
            streams: 1024,
            buffered: 64 << 20,
            sockets: 1024,
            pipes: 1000,
            socket_message: 1 << 20,
        }
    }
}
