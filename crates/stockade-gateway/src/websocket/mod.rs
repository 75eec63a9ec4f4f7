//! WebSockets of clients.
//!
//! [`handshake`] reads the request for a WebSocket and makes the response that accepts it. Then [`relay`] passes
//! messages between client and guest until either side ends.

pub(crate) mod handshake;
pub(crate) mod relay;
