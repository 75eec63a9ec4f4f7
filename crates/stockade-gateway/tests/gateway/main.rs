//! The gateway as clients see it, over loopback: well-behaved ones and others. Targets are functions of
//! the tests; every client is a real one or a bare socket.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cost;
mod datagrams;
mod harness;
mod http1;
mod http2;
mod keys;
mod library;
mod lifetime;
mod limits;
mod proxies;
mod rates;
mod routing;
mod smuggling;
mod tls;
mod tokens;
mod websocket;
