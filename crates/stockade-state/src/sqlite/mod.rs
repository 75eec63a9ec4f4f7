//! State in an SQLite file of the supervisor.
//!
//! Invariants:
//! 1. One process has the file: a lock file next to it says so. In it one thread writes, and takes the
//!    accounts of all keyspaces along; others only read.
//! 2. A commit is answered after its transaction is on the disk (WAL, `synchronous=FULL`), and before
//!    any read that begins later. Many commits share a transaction; each of them is whole.
//! 3. Every queue is fair between keyspaces and bounded for each of them.
//! 4. After a failed sync nothing more is written: what the disk holds is unknown until a restart.

mod clock;
mod connection;
mod fault;
mod feed;
mod group;
mod keyspace;
mod open;
mod queue;
mod reader;
mod shared;
mod store;
mod tidy;
mod writer;

#[cfg(test)]
mod tests;

pub use open::{OpenError, StateLock, lock, verify};
pub use store::{SqliteOptions, SqliteStore, StoreStats};
