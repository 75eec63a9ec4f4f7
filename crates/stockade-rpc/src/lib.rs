//! Calls what a guest's module exports, from outside: JSON-RPC 2.0 over HTTP, WebSocket and Unix sockets.
//!
//! Duty: listeners, connections, deadlines, bounds, and a guest that is started again when it has ended.
//! The protocol itself (requests, batches, error objects, responses) is `jsonrpsee`'s.
//!
//! Invariants:
//! 1. A method is the name of an export and of nothing else: not of a global function, not of what an
//!    object inherits.
//! 2. Every call gets one reply, even if the isolate ends; a notification gets none.
//! 3. What is held for one connection is bounded: a client that does not read is not read from.
//! 4. A reply says what the guest threw or why there is no result. It says nothing of the host.
//!
//! Deliberately absent: TLS, so a server listens on the loopback device unless it is configured otherwise; V8; the
//! command line; subscriptions.

mod answer;
mod audit;
mod client;
mod connection;
mod error;
mod export;
mod guest;
mod lifecycle;
mod limits;
mod listen;
mod live_guest;
mod message;
mod methods;
mod origin;
mod server;
mod websocket;

pub use audit::RpcAudit;
pub use error::code;
pub use export::{ExportError, call_export, plain_json};
pub use guest::Guest;
pub use limits::RpcLimits;
pub use listen::{Address, AddressError, ListenError};
pub use server::{RpcOptions, Running, Server, Stopped};
pub use stockade_callers::KeyRules;

/// Why something outside of this crate failed, for a person.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
