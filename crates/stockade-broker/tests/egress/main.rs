//! A guest's way out, used and attacked. Servers, resolvers and connections are real, on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod bodies;
mod budgets;
mod connections;
mod dial;
mod dns;
mod http;
mod proxies;
mod secrets;
mod servers;
mod setting;
mod sockets;
mod tls;
mod websockets;
