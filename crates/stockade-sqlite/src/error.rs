//! What goes wrong with a database.

use std::path::PathBuf;
use std::time::Duration;

/// Why a database cannot be used at all. For operators: it names the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file, or the log or journal next to it.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process, or another grant, has the file open.
    #[error(
        "{} is in use: another program or another grant has it locked, and a database has one user", .0.display()
    )]
    Locked(PathBuf),
}

/// Why a statement was not carried out. For guests: it names no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// SQLite refuses it.
    #[error("{message}")]
    Sqlite {
        /// The name of the error code, as `SQLITE_CONSTRAINT_UNIQUE`.
        code: String,
        /// SQLite's message.
        message: String,
        /// Which statement of several, from 0.
        statement: u32,
    },
    /// It took too long, and had no effect.
    #[error("the {what} took longer than {} ms, which is its limit, and had no effect", limit.as_millis())]
    TimedOut {
        /// A statement or a transaction.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// Too many calls wait for the database, or one waited for too long.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// Arguments over a limit.
    #[error("{0}")]
    TooLarge(String),
    /// The transaction has ended before.
    #[error("the transaction has ended: {0}")]
    Ended(String),
    /// Its worker ended, or cannot be started. What was being done had no effect, or was committed.
    #[error("the database failed: {0}")]
    Failed(String),
}
