//! Why the store did not do what it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use super::record::KeyId;
use super::{MAX_METADATA, MAX_NAME_CHARS, MAX_SECRETS};
use crate::key::RandomError;
use crate::scope::ScopeError;
use crate::sqlite::SqliteFault;

/// Why the store did not do what it was asked for. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no key of this id.
    #[error("there is no key {0}\n  fix: stockade keys list shows all keys")]
    NoKey(KeyId),
    /// The key was revoked, which is final.
    #[error("{0} was revoked, which is final\n  fix: make another key")]
    Revoked(KeyId),
    /// A name or an owner that cannot be kept.
    #[error("{what} {why}; allowed are 1 to {MAX_NAME_CHARS} characters on one line")]
    Text {
        /// `the name` or `the owner`.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// Scopes that cannot be kept.
    #[error("{0}")]
    Scope(#[from] ScopeError),
    /// Too much metadata.
    #[error("the metadata has {0} bytes as JSON; the most is {MAX_METADATA}")]
    Metadata(usize),
    /// A time that is over, or too far away.
    #[error(
        "the key would end at {0}, in seconds since 1970, which is over or after the year 2106"
    )]
    Expiry(u64),
    /// Rotated too often within the overlap.
    #[error(
        "{id} has {MAX_SECRETS} texts that are still valid\n  fix: wait until an overlap is over, or rotate with --overlap 0s"
    )]
    TooManySecrets {
        /// The key.
        id: KeyId,
    },
    /// The store was made with another pepper.
    #[error(
        "{path} was made with another pepper, so no key would fit\n  fix: name its pepper with --pepper, or as api_keys.pepper in the configuration"
    )]
    OtherPepper {
        /// The store.
        path: PathBuf,
    },
    /// An import that does not fit.
    #[error("the import is refused: {0}")]
    Import(String),
    /// Another kind of file.
    #[error(
        "{path} is not a store of keys{why}\n  fix: name the store with --store, or as api_keys.path in the configuration"
    )]
    NotAStore {
        /// Where.
        path: PathBuf,
        /// What is known.
        why: &'static str,
    },
    /// The disk is full.
    #[error(
        "no room is left on the disk of {path}: nothing was changed, and what was there is safe\n  fix: make room and try again"
    )]
    DiskFull {
        /// The store.
        path: PathBuf,
    },
    /// Another process writes for long.
    #[error(
        "{path} is in use by another process, which did not finish within 5 s\n  fix: try again"
    )]
    Busy {
        /// The store.
        path: PathBuf,
    },
    /// No random numbers.
    #[error("{0}")]
    Random(#[from] RandomError),
    /// The file system refused.
    #[error("cannot open {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database refused.
    #[error("the store {path} failed: {source}")]
    Sqlite {
        /// Where.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// What an error of the database means.
pub(super) fn failure(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match SqliteFault::from(error) {
        SqliteFault::DiskFull => StoreError::DiskFull { path },
        SqliteFault::Busy => StoreError::Busy { path },
        SqliteFault::NotADatabase => StoreError::NotAStore { path, why: "" },
        SqliteFault::Other(_) if path.is_dir() => StoreError::NotAStore {
            path,
            why: ": it is a folder",
        },
        SqliteFault::Other(source) => StoreError::Sqlite { path, source },
    }
}
