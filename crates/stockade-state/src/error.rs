//! Why an operation on a keyspace failed.

use std::path::PathBuf;

use crate::key::Key;
use crate::limits::MAX_OPERATIONS;
use crate::list::ListError;

/// Most keys that one read may name.
pub const MAX_READ_KEYS: usize = 128;

/// An operation that was not done. Nothing of it was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A value above the keyspace's limit.
    #[error("the value of {key:?} has {bytes} bytes: at most {limit} are allowed")]
    ValueTooLarge {
        /// Its key.
        key: Key,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More in one commit than is allowed.
    #[error("a commit of {bytes} bytes is too large: at most {limit} are allowed; split it")]
    CommitTooLarge {
        /// Bytes of its keys and values.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many checks and mutations.
    #[error("a commit has {operations} checks and mutations: at most {MAX_OPERATIONS} are allowed")]
    TooManyOperations {
        /// How many.
        operations: usize,
    },
    /// Too many keys in one read.
    #[error("a read of {keys} keys: at most {MAX_READ_KEYS} are allowed")]
    TooManyKeys {
        /// How many.
        keys: usize,
    },
    /// A query that no page can answer.
    #[error(transparent)]
    List(#[from] ListError),
    /// The values of one read are more than fit into an answer.
    #[error(
        "the values of this read have more than {limit} bytes together; read fewer keys at once"
    )]
    ReadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The commit would take more storage than the keyspace may have.
    #[error(
        "storage is full: {used} of {limit} bytes are used, this needs {needed} more; \
         delete entries, let them expire, or raise the limit of storage"
    )]
    QuotaExceeded {
        /// Bytes that live entries have, with overhead.
        used: u64,
        /// Bytes by which the commit would grow them.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// Too much is waiting already, for this keyspace.
    #[error("{pending} operations wait for this keyspace already; try again later")]
    Busy {
        /// How many wait.
        pending: usize,
    },
    /// Too many watches are open on this keyspace.
    #[error("{limit} watches are open on this keyspace already, which is the limit")]
    TooManyWatches {
        /// The limit.
        limit: usize,
    },
    /// The disk has no room.
    #[error("no room is left on the disk of {}: nothing was written; free some space", path.display())]
    DiskFull {
        /// The store's file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: it or its file system is read-only", path.display())]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
    },
    /// What the file holds is damaged.
    #[error("{} is damaged ({detail}): restore it from a backup", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The disk failed; whether it holds what was written before is not certain until a restart.
    #[error("the disk of {} failed ({detail}): nothing more is written until a restart", path.display())]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// What was reported.
        detail: String,
    },
    /// Another failure of the database, which did nothing.
    #[error("{} could not be used: {detail}", path.display())]
    Database {
        /// The store's file.
        path: PathBuf,
        /// What was reported.
        detail: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StateError {
    /// Whether the keyspace's user can do something about it. Others are the operator's concern, and
    /// their text names files: they belong in the log, not before a guest.
    #[must_use]
    pub fn concerns_guest(&self) -> bool {
        match self {
            Self::ValueTooLarge { .. }
            | Self::CommitTooLarge { .. }
            | Self::TooManyOperations { .. }
            | Self::TooManyKeys { .. }
            | Self::List(_)
            | Self::ReadTooLarge { .. }
            | Self::QuotaExceeded { .. }
            | Self::Busy { .. }
            | Self::TooManyWatches { .. } => true,
            Self::DiskFull { .. }
            | Self::ReadOnly { .. }
            | Self::Corrupt { .. }
            | Self::Failed { .. }
            | Self::Database { .. }
            | Self::Closed => false,
        }
    }
}
