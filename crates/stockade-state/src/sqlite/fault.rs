//! What SQLite's errors mean for callers, and whether the store may still write.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Error, ErrorCode};

use crate::error::StateError;

// Extended result codes, https://www.sqlite.org/rescode.html
const IOERR_FSYNC: i32 = 10 | (4 << 8);
const IOERR_DIR_FSYNC: i32 = 10 | (5 << 8);
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// Says what an error of SQLite means.
pub(crate) fn state_error(path: &Path, error: &Error) -> StateError {
    let path = path.to_owned();
    let detail = error.to_string();
    let Error::SqliteFailure(code, _) = error else {
        return StateError::Database { path, detail };
    };
    match (code.code, code.extended_code) {
        (ErrorCode::DiskFull, _) | (_, IOERR_SHMSIZE) => StateError::DiskFull { path },
        (ErrorCode::ReadOnly, _) => StateError::ReadOnly { path },
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
            StateError::Corrupt { path, detail }
        }
        // A second sync of the same pages may report success without their being written
        // (https://lwn.net/Articles/752063/).
        (_, IOERR_FSYNC | IOERR_DIR_FSYNC) => StateError::Failed { path, detail },
        _ => StateError::Database { path, detail },
    }
}

/// Whether the store may write and can. Once it may not, it stays so until a restart.
#[derive(Debug, Default)]
pub(crate) struct Health {
    fault: Mutex<Option<StateError>>,
    /// The last write failed, as on a full disk.
    failing: AtomicBool,
}

impl Health {
    pub(crate) fn fault(&self) -> Option<StateError> {
        self.fault.lock().clone()
    }

    /// Whether writes succeed, as far as the last one showed.
    pub(crate) fn is_writable(&self) -> bool {
        !self.failing.load(Ordering::Relaxed) && self.fault().is_none()
    }

    /// Notes that a transaction was written.
    pub(crate) fn wrote(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Notes an error of a write, and remembers those after which writing could do harm.
    pub(crate) fn notice(&self, error: &StateError) {
        self.failing.store(true, Ordering::Relaxed);
        if !matches!(
            error,
            StateError::Corrupt { .. } | StateError::Failed { .. }
        ) {
            return;
        }
        let mut fault = self.fault.lock();
        if fault.is_none() {
            tracing::error!(%error, "state: the store writes no more until a restart");
            *fault = Some(error.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(extended_code: i32) -> StateError {
        let error = Error::SqliteFailure(rusqlite::ffi::Error::new(extended_code), None);
        state_error(Path::new("/s.db"), &error)
    }

    #[test]
    fn error_of_sqlite_is_named_by_its_meaning() {
        use rusqlite::ffi;
        assert!(matches!(
            failure(ffi::SQLITE_FULL),
            StateError::DiskFull { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_IOERR_SHMSIZE),
            StateError::DiskFull { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_READONLY),
            StateError::ReadOnly { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_CORRUPT),
            StateError::Corrupt { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_NOTADB),
            StateError::Corrupt { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_IOERR_FSYNC),
            StateError::Failed { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_IOERR_WRITE),
            StateError::Database { .. }
        ));
        assert!(matches!(
            failure(ffi::SQLITE_BUSY),
            StateError::Database { .. }
        ));
    }

    #[test]
    fn health_after_a_failed_sync_stays_bad() {
        let health = Health::default();
        health.notice(&failure(rusqlite::ffi::SQLITE_FULL));
        assert_eq!(health.fault(), None);
        health.notice(&failure(rusqlite::ffi::SQLITE_IOERR_FSYNC));
        health.notice(&failure(rusqlite::ffi::SQLITE_CORRUPT));
        assert!(matches!(health.fault(), Some(StateError::Failed { .. })));
    }
}
