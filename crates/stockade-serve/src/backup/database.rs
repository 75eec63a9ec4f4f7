//! Copies a database as it is at one instant, while others write to it.
//!
//! `VACUUM INTO` reads in one transaction. Of a database with a write-ahead log that holds up nobody: who writes, writes into the
//! log, which cannot be moved into the file meanwhile. So the log is bounded here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::BackupError;

/// Bytes that the log may have while the database is copied.
const MOST_LOG: u64 = 1 << 30;

/// Steps of SQLite's machine between checks of the log: some milliseconds.
const STEPS: i32 = 100_000;

/// How long a process that is just starting or ending may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// Copies the database at `from` into the empty file `to`, whose path is absolute, without a log, and checks the copy.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => BackupError::TooBusy {
            path: from.to_owned(),
            limit: MOST_LOG >> 20,
        },
        _ => BackupError::Database {
            path: from.to_owned(),
            source,
        },
    };
    // Readers of such a database write to the file of its locks.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(from, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection
        .execute_batch(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -4096;",
        )
        .map_err(failed)?;
    let log = sibling(from, "-wal");
    let is_too_long = move || fs::metadata(&log).is_ok_and(|file| file.len() > MOST_LOG);
    connection
        .progress_handler(STEPS, Some(is_too_long))
        .map_err(failed)?;
    let name = to.to_str().ok_or_else(|| {
        BackupError::file(to, "naming it to SQLite")(io::Error::other("its path is not UTF-8"))
    })?;
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(failed)?;
    drop(connection);
    check(to)
}

/// Whether a database is whole.
pub(super) fn check(path: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Database {
        path: path.to_owned(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection
        .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
        .map_err(failed)?;
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if found == "ok" {
        return Ok(());
    }
    Err(BackupError::damaged(&path.display().to_string(), &found))
}

/// Moves the log of a database that no process has open into its file, if that is possible.
pub(super) fn settle(path: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Of a database that is damaged, its log stays, and is kept with it.
    if let Ok(connection) = Connection::open_with_flags(path, flags) {
        let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(moved);
    }
}

/// The path with something behind it: `state.db` and `-wal`.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with a log, whose two tables always have as many rows.
    fn pair(path: &Path) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA application_id = 77; CREATE TABLE a (x BLOB); CREATE TABLE b (x BLOB);",
            )
            .unwrap();
        connection
    }

    fn write_twice(connection: &mut Connection) {
        let change = connection.transaction().unwrap();
        for table in ["a", "b"] {
            let insert = format!("INSERT INTO {table} VALUES (randomblob(500))");
            change.execute(&insert, []).unwrap();
        }
        change.commit().unwrap();
    }

    #[test]
    fn copy_is_as_of_one_instant_while_another_connection_writes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from.db");
        let mut writer = pair(&from);
        for _ in 0..1000 {
            write_twice(&mut writer);
        }
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writing = std::thread::spawn(move || {
            let mut written = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                write_twice(&mut writer);
                written += 1;
            }
            written
        });
        for round in 0..5 {
            let to = folder.path().join(format!("{round}.db"));
            copy(&from, &to).unwrap();
            let copied = Connection::open(&to).unwrap();
            let ask = |sql: &str| {
                copied
                    .query_row(sql, [], |row| row.get::<_, i64>(0))
                    .unwrap()
            };
            assert_eq!(ask("SELECT count(*) FROM a"), ask("SELECT count(*) FROM b"));
            assert!(ask("SELECT count(*) FROM a") >= 1000);
            assert_eq!(ask("PRAGMA application_id"), 77);
        }
        drop(stop);
        assert!(writing.join().unwrap() > 0);
    }

    #[test]
    fn damaged_database_is_not_copied() {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from.db");
        let mut writer = pair(&from);
        for _ in 0..1000 {
            write_twice(&mut writer);
        }
        drop(writer);
        copy(&from, &folder.path().join("whole.db")).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&from).unwrap();
        file.write_all_at(&[0xff; 8192], 40 * 4096).unwrap();
        assert!(copy(&from, &folder.path().join("damaged.db")).is_err());
    }
}
