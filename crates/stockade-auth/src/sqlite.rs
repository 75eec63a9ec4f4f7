//! What the SQLite files of keys, quotas and usage have in common: who may read them, and what an error of one means.

use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::ErrorCode;

/// What an error of an SQLite file means.
#[derive(Debug)]
pub enum SqliteFault {
    /// No room is left.
    DiskFull,
    /// Another process did not finish in time.
    Busy,
    /// The file is something else.
    NotADatabase,
    /// Anything else.
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for SqliteFault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            _ => Self::Other(error),
        }
    }
}

/// Makes a file that only this user can read, unless there is one, and takes the permission to read one that is there from
/// all others.
///
/// # Errors
/// When the file system refuses.
pub fn private_file(path: &Path) -> io::Result<()> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}
