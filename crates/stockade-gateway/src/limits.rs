//! What clients may take. Every limit is on by default.

use std::time::Duration;

/// What one client and all of them together may take of the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Open connections of all listeners.
    pub connections: usize,
    /// Open connections of one address; IPv6 addresses count by their /64.
    pub connections_per_address: usize,
    /// From the first byte of a connection (or its acceptance, with the PROXY protocol) to the end of the
    /// TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// How long a connection may lie idle between requests, and before the first.
    pub idle_timeout: Duration,
    /// Size of a request's head with its request line, and of trailers, in bytes. At least 8,192 on
    /// HTTP/1. Over it: 431.
    pub header_bytes: usize,
    /// Header fields of a request. Over it: 431.
    pub headers: usize,
    /// Length of a request's path and query in bytes. Over it: 414.
    pub uri_bytes: usize,
    /// Size of a request's body in bytes, whatever a route allows. Over it: 413.
    pub max_body: u64,
    /// How long a request's body may make no progress while it is waited for.
    pub body_timeout: Duration,
    /// Bytes a second that a request's body must reach while it is waited for, after `body_timeout`, and a
    /// response's while it waits to be taken; 0 asks for any progress at all.
    pub body_rate: u64,
    /// How long a target may take to answer with a head, unless the route says otherwise. Over it: 504.
    pub request_timeout: Duration,
    /// How long a client may take nothing of a response that is ready for it.
    pub stall_timeout: Duration,
    /// Requests of one connection; the last is answered with `connection: close` or GOAWAY.
    pub requests_per_connection: u64,
    /// Requests of one HTTP/2 connection at the same time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub h2_streams: u32,
    /// HTTP/2 flow control of one stream in bytes (RFC 9113, section 6.9.2).
    pub h2_stream_window: u32,
    /// HTTP/2 flow control of one connection in bytes.
    pub h2_connection_window: u32,
    /// Response bytes that may wait in one HTTP/2 stream.
    pub h2_send_buffer: usize,
    /// Streams that a client reset before the gateway handled them; more end the connection
    /// (CVE-2023-44487).
    pub h2_pending_resets: usize,
    /// Streams that the gateway had to reset for the client's errors; more end the connection
    /// (RUSTSEC-2024-0003).
    pub h2_error_resets: usize,
    /// Frames a second that carry no request and no data (SETTINGS, PING, RST_STREAM, PRIORITY, empty
    /// DATA, CONTINUATION); four times as many may come in a burst. More end the connection.
    pub h2_control_frames: u32,
    /// WebSockets.
    pub sockets: SocketLimits,
}

/// What a client's WebSocket may take.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketLimits {
    /// Open WebSockets of all listeners.
    pub open: usize,
    /// Size of a message in bytes, in both directions. Over it: close code 1009.
    pub message_bytes: usize,
    /// Messages a second of one client; four times as many may come in a burst. More are read later, not
    /// refused.
    pub messages_per_second: u32,
    /// A ping is sent after this time without anything from the client.
    pub ping_interval: Duration,
    /// How long the answer to a ping, a close, or the taking of a message may last.
    pub pong_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            header_bytes: 32 * 1024,
            headers: 100,
            uri_bytes: 8 * 1024,
            max_body: 100 << 20,
            body_timeout: Duration::from_secs(20),
            body_rate: 500,
            request_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(30),
            requests_per_connection: 100_000,
            h2_streams: 100,
            h2_stream_window: 64 * 1024 - 1,
            h2_connection_window: 1 << 20,
            h2_send_buffer: 64 * 1024,
            h2_pending_resets: 20,
            h2_error_resets: 256,
            h2_control_frames: 500,
            sockets: SocketLimits::default(),
        }
    }
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            open: 5_000,
            message_bytes: 1 << 20,
            messages_per_second: 1_000,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(20),
        }
    }
}
