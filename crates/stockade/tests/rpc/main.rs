//! `stockade rpc` as its clients see it: over HTTP, WebSocket and Unix sockets, well-behaved and not.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod client;
mod console;
mod http;
mod keys;
mod library;
mod lifetime;
mod listen;
mod operated;
mod websocket;
