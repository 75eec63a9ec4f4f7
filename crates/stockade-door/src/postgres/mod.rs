//! The door to PostgreSQL: protocol 3.0, as its documentation's chapter "Frontend/Backend Protocol" describes it.
//!
//! 1. `startup`: the guest's encryption requests are answered `N`, its password is never asked for. A `CancelRequest`
//!    is passed on for a session of the same owner.
//! 2. `connect`: the supervisor logs in, with SCRAM-SHA-256-PLUS, SCRAM-SHA-256, MD5 or a password in TLS.
//! 3. `session`: frames pass in both directions, and are counted. `ReadyForQuery` gives the state of the transaction.
//! 4. `wire`: the connection is used again after `DISCARD ALL`, and only in state `I`.
//! 5. `client`: statements that the supervisor runs for a guest, in a session of the same door.

mod client;
mod connect;
mod door;
mod error_response;
mod session;
mod startup;
mod types;
mod wire;

pub use client::Client;
pub use door::Door;
pub(crate) use wire::is_quiet;

/// Reads any bytes, for the fuzzer.
pub(crate) fn parse(bytes: &[u8]) {
    drop(startup::parse(bytes));
    let _ = error_response::field(bytes, b'C');
}
