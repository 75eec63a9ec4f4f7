//! Connections of guests over TCP, and datagrams over UDP: `connect()` and `datagram()`.
//!
//! The rules are of their own: a host that `fetch` may reach is not one whose mail server may be reached. The order is
//! that of a fetch: count the attempt, read the target, hold it against the rules, take a place, resolve, check every
//! address, connect to one of exactly these, and start TLS where the guest wants it from the first byte.

mod connect;
mod datagrams;
mod policy;
mod stream;

pub(crate) use connect::SocketParts;
pub use connect::{Connection, ConnectionStream, Deadline, SocketTarget, Sockets, TlsStart};
pub use policy::{Protocol, Secure, SocketLimits, SocketPolicy, SocketRule, TlsUse};
pub use stream::SocketStream;
