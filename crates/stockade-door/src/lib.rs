//! Doors to databases. The guest's own driver speaks PostgreSQL's, MySQL's, Redis's or MongoDB's protocol on a stream of bytes.
//! The supervisor answers the login without a password, logs in to the real server itself, and passes on what the
//! limits of the grant allow.
//!
//! | module | server |
//! |---|---|
//! | [`postgres`] | PostgreSQL |
//! | [`mysql`] | MySQL, MariaDB |
//! | [`redis`] | Redis, Valkey |
//! | [`mongo`] | MongoDB |
//!
//! Invariants:
//! 1. No password and no address of the server is ever written to the guest's stream. What a database says about its
//!    own session, such as the name of the role, passes.
//! 2. Limits are enforced here, with clocks of this process. A setting of the server's session is never a limit: the
//!    guest can change it.
//! 3. Each byte of a guest and of a server is hostile. Lengths are checked before anything is stored for them, a
//!    stream has one buffer of a fixed size in each direction, and a frame of an unknown type ends the session.
//! 4. A connection of the pool serves one guest at a time. It is used again only when the server has answered
//!    everything, no transaction is open and the session was reset. Otherwise it is closed, which rolls back.
//! 5. A session that ends while the server works cancels that work on the server.
//!
//! Deliberately absent: how a grant is configured, how the server's name becomes an address, and who may open a door.

mod flow;
mod limits;
pub mod mongo;
pub mod mysql;
mod pool;
pub mod postgres;
pub mod redis;
mod server;
mod session;
mod sql;
mod tls;
mod upstream;
mod work_clock;

pub use limits::{Limits, PoolLimits};
pub use pool::{OwnerId, PoolUse};
pub use server::{Dial, ServerError, ServerStream, Socket};
pub use sql::{
    Begin, Column, DatabaseError, Isolation, MAX_PARAMETERS, Parameter, Rows, SqlClient, SqlError,
    Statement, ValueKind,
};
pub use tls::Tls;
pub use upstream::{Login, Server};

/// Reads any bytes as what guests and servers send first, and as parts of answers, for the fuzzer.
#[doc(hidden)]
pub fn parse_door(bytes: &[u8]) {
    postgres::parse(bytes);
    mysql::parse(bytes);
    redis::parse(bytes);
    mongo::parse(bytes);
}
