//! The audit log: what was allowed, denied and done, one JSON object a line.
//!
//! Each line has a number and the SHA-256 of the line before it, so that a line cannot be changed, left out or moved
//! without a trace. From time to time a checkpoint, signed with Ed25519, vouches for everything before it. Who can write
//! to the folder and has no key can therefore only cut lines off the end, and back to an earlier checkpoint; a copy of
//! the last checkpoint that is kept elsewhere shows that, too.
//!
//! [`AuditLog`] is the writer, [`verify`] checks a folder, and [`Lines`] reads it.
//!
//! Invariants:
//! 1. [`AuditLog::record`] never waits. What does not fit into the queue is counted, and the count is a line.
//! 2. A line whose [`AuditLog::confirm`] succeeded is on the disk.
//! 3. One process writes to a folder: it holds the lock of the file `lock`.

mod chain;
mod hex;
mod key;
mod log;
mod read;
mod record;
mod segment;
mod verify;

pub use chain::Digest;
pub use key::{PublicKey, SigningKey};
pub use log::{AuditLog, AuditOptions, AuditStatus};
pub use read::{Filter, Line, Lines};
pub use record::Record;
pub use verify::{Verified, verify};

use std::io;
use std::path::PathBuf;

/// Why the audit log cannot be written, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refused.
    #[error("{path}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to the folder.
    #[error(
        "{path}: another process writes to this audit log\n  fix: give each server an audit folder of its own"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A key that cannot be used.
    #[error("{path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and how to mend it.
        why: &'static str,
    },
    /// A line that does not follow from the line before it.
    #[error("{path}:{line}: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// The log ends before a line that it had.
    #[error("{path}: {why}")]
    Cut {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The line was not confirmed to be on the disk.
    #[error("the audit log cannot be written: {why}")]
    Unconfirmed {
        /// Why.
        why: String,
    },
}

impl AuditError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
