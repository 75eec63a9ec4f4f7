//! Opening the file: its lock, its mode, its layout, and whether it is whole.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::connection::{self, APPLICATION_ID, LAYOUT, LogFrames, unsigned};
use super::shared::{Account, Accounts};
use crate::limits::ENTRY_OVERHEAD;

/// How long the lock of a process that is just ending is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Bytes of the smallest page that SQLite writes.
const HEADER: u64 = 512;

/// A store that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder, the file or its lock could not be made or opened.
    #[error("cannot open the state in {}: {what}: {source}", path.display())]
    File {
        /// The store's file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "cannot open the state in {}: process {process} has it open\n  \
         fix: stop that process, or give this one another file", path.display()
    )]
    Locked {
        /// The store's file.
        path: PathBuf,
        /// Its number, as it wrote it next to the file.
        process: String,
    },
    /// The file holds something else.
    #[error(
        "cannot open the state in {}: it is not a Stockade state, but {found}\n  \
         fix: give another file", path.display()
    )]
    Foreign {
        /// The store's file.
        path: PathBuf,
        /// What it seems to be.
        found: String,
    },
    /// Made by a later version.
    #[error(
        "cannot open the state in {}: its layout is {found}, this version knows up to {LAYOUT}\n  \
         fix: use the version of Stockade that wrote it, or a later one", path.display()
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Its layout.
        found: i32,
    },
    /// It cannot be written.
    #[error(
        "cannot open the state in {}: it is read-only\n  \
         fix: make the file, its folder and its file system writable for this user", path.display()
    )]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
    },
    /// It is damaged.
    #[error(
        "cannot open the state in {}: it is damaged: {detail}\n  \
         fix: restore it from a backup; `sqlite3 FILE .recover` may save what is left", path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// The first damage.
        detail: String,
    },
    /// The disk has no room.
    #[error("cannot open the state in {}: its disk is full\n  fix: free some space", path.display())]
    DiskFull {
        /// The store's file.
        path: PathBuf,
    },
    /// The file system cannot do what the store needs.
    #[error(
        "cannot open the state in {}: write-ahead logging is not possible there ({mode})\n  \
         fix: put it on a local file system", path.display()
    )]
    NoLog {
        /// The store's file.
        path: PathBuf,
        /// The journal mode there is instead.
        mode: String,
    },
    /// Another failure of the database.
    #[error("cannot open the state in {}: {detail}", path.display())]
    Database {
        /// The store's file.
        path: PathBuf,
        /// What was reported.
        detail: String,
    },
    /// A thread could not be started.
    #[error("cannot open the state: a thread could not be started: {0}")]
    Thread(io::Error),
}

/// The lock on a store's file. It is a separate file, because SQLite loses its own locks when the process
/// closes the file (https://www.sqlite.org/howtocorrupt.html, 2.2).
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// A file that is open, locked and whole.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) lock: StateLock,
    pub(crate) connection: Connection,
    pub(crate) frames: LogFrames,
    pub(crate) accounts: Accounts,
    pub(crate) earliest_expiry_ms: Option<i64>,
}

/// Whether a file that no process has open is a store of this version, and whole. The file stays as it is.
///
/// # Errors
/// What [`open`] would say of it.
pub fn verify(path: &Path) -> Result<(), OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| open_error(path, &error))?;
    match identity(path, &connection)? {
        Identity::Ours => check_whole(path, &connection),
        Identity::Empty => Err(OpenError::Foreign {
            path: path.to_owned(),
            found: "an empty database".to_owned(),
        }),
    }
}

/// Opens a file; up to `check_bytes` it is read completely, to check that it is intact.
pub(crate) fn open(path: &Path, check_bytes: u64) -> Result<Opened, OpenError> {
    let failed = |what, source| file_error(path, what, source);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed("making its folder failed", error))?;
    let lock = lock(path)?;
    make_file(path, folder)?;
    let database = |error: &rusqlite::Error| open_error(path, error);
    let (connection, frames) = connection::writer(path).map_err(|error| database(&error))?;
    check_layout(path, &connection)?;
    let size = fs::metadata(path).map_or(0, |meta| meta.len());
    let accounts = if size <= check_bytes {
        check_whole(path, &connection)?;
        count(&connection)
    } else {
        tracing::info!(path = %path.display(), size, "state: the file is too large to be checked at the start");
        load(&connection)
    }
    .map_err(|error| database(&error))?;
    let earliest_expiry_ms = connection
        .query_row(
            "SELECT min(expires) FROM entries WHERE expires IS NOT NULL",
            [],
            |row| row.get(0),
        )
        .map_err(|error| database(&error))?;
    Ok(Opened {
        path: path.to_owned(),
        lock,
        connection,
        frames,
        accounts,
        earliest_expiry_ms,
    })
}

pub(crate) fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    use crate::error::StateError;
    match super::fault::state_error(path, error) {
        StateError::DiskFull { path } => OpenError::DiskFull { path },
        StateError::ReadOnly { path } => OpenError::ReadOnly { path },
        StateError::Corrupt { path, detail } => match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign {
                path,
                found: "not an SQLite database".to_owned(),
            },
            _ => OpenError::Corrupt { path, detail },
        },
        other => OpenError::Database {
            path: path.to_owned(),
            detail: match other {
                StateError::Database { detail, .. } | StateError::Failed { detail, .. } => detail,
                other => other.to_string(),
            },
        },
    }
}

fn file_error(path: &Path, what: &'static str, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            OpenError::ReadOnly { path }
        }
        io::ErrorKind::StorageFull => OpenError::DiskFull { path },
        _ => OpenError::File { path, what, source },
    }
}

/// The path with something behind it: `state.db` and `-wal`.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Keeps every process from opening the store at `path`, until the lock is dropped. Blocks for up to five seconds.
///
/// # Errors
/// When a process has the store open, or the lock cannot be made.
pub fn lock(path: &Path) -> Result<StateLock, OpenError> {
    let failed = |source| file_error(path, "locking it failed", source);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(sibling(path, ".lock"))
        .map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let read = (&mut file).take(20).read_to_string(&mut process);
                if read.is_err() || process.trim().is_empty() {
                    process = "(unknown)".to_owned();
                }
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    process: process.trim().to_owned(),
                });
            }
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(StateLock { _file: file })
}

/// Makes the file, for this user only, and makes its name durable. It is closed again before SQLite
/// opens it.
fn make_file(path: &Path, folder: &Path) -> Result<(), OpenError> {
    let failed = |what, source| file_error(path, what, source);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(file) => {
            drop(file);
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| failed("making its folder durable failed", error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::metadata(path).map_err(|error| failed("looking at it failed", error))?;
            if !meta.is_file() {
                return Err(OpenError::Foreign {
                    path: path.to_owned(),
                    found: "no regular file".to_owned(),
                });
            }
            // SQLite takes a file that is too short for a header for a new one.
            if (1..HEADER).contains(&meta.len()) {
                return Err(OpenError::Corrupt {
                    path: path.to_owned(),
                    detail: format!("only {} bytes of it are left", meta.len()),
                });
            }
            if meta.permissions().mode() & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "state: others could open the file; its mode is now 0600");
                fs::set_permissions(path, Permissions::from_mode(0o600))
                    .map_err(|error| failed("closing it to others failed", error))?;
            }
            Ok(())
        }
        Err(error) => Err(failed("making it failed", error)),
    }
}

fn check_layout(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_error(path, &error);
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::ReadOnly {
            path: path.to_owned(),
        });
    }
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoLog {
            path: path.to_owned(),
            mode,
        });
    }
    match identity(path, connection)? {
        Identity::Ours => Ok(()),
        Identity::Empty => connection::lay_out(connection).map_err(failed),
    }
}

/// What a database is.
enum Identity {
    /// One of ours, of this version.
    Ours,
    /// Nothing yet.
    Empty,
}

fn identity(path: &Path, connection: &Connection) -> Result<Identity, OpenError> {
    let failed = |error: rusqlite::Error| open_error(path, &error);
    let number = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0))
    };
    let application = number("application_id").map_err(failed)?;
    let layout = number("user_version").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    match (application, layout) {
        (0, 0) if tables == 0 => Ok(Identity::Empty),
        (APPLICATION_ID, LAYOUT) => Ok(Identity::Ours),
        (APPLICATION_ID, found) if found > LAYOUT => Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        }),
        (APPLICATION_ID, found) => Err(OpenError::Corrupt {
            path: path.to_owned(),
            detail: format!("its layout is {found}, which never was"),
        }),
        _ => Err(OpenError::Foreign {
            path: path.to_owned(),
            found: "an SQLite database of another program".to_owned(),
        }),
    }
}

fn check_whole(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| open_error(path, &error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt {
        path: path.to_owned(),
        detail: found,
    })
}

/// The accounts as they were written.
fn load(connection: &Connection) -> rusqlite::Result<Accounts> {
    let mut statement = connection.prepare("SELECT id, version, entries, bytes FROM keyspaces")?;
    let accounts = statement.query_map([], |row| {
        let account = Account {
            version: unsigned(row.get(1)?),
            entries: unsigned(row.get(2)?),
            bytes: unsigned(row.get(3)?),
        };
        Ok((row.get(0)?, account))
    })?;
    accounts.collect()
}

/// The accounts, counted again.
fn count(connection: &Connection) -> rusqlite::Result<Accounts> {
    let mut accounts = load(connection)?;
    let mut statement = connection.prepare(
        "SELECT keyspace, count(*), sum(length(key) + size), max(version) FROM entries GROUP BY keyspace",
    )?;
    let mut counted = Accounts::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entries = unsigned(row.get(1)?);
        let account = Account {
            version: unsigned(row.get(3)?),
            entries,
            bytes: unsigned(row.get(2)?).saturating_add(entries.saturating_mul(ENTRY_OVERHEAD)),
        };
        counted.insert(row.get(0)?, account);
    }
    for (id, account) in &mut accounts {
        let found = counted.remove(id).unwrap_or_default();
        if (found.entries, found.bytes) != (account.entries, account.bytes) {
            tracing::warn!(
                keyspace = id,
                "state: the usage of a keyspace was wrong and is recomputed"
            );
        }
        account.entries = found.entries;
        account.bytes = found.bytes;
        account.version = account.version.max(found.version);
    }
    Ok(accounts)
}
