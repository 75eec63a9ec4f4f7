//! Connections to the file, and what it is laid out like.
//!
//! The tables, in version 1 of the layout (`PRAGMA user_version`):
//! - `keyspaces`: its name, the version of its last commit, and the sums over its entries. A
//!   transaction that changes entries changes the sums with them.
//! - `entries`: `expires` in milliseconds since 1970, `kind` 1 text, 2 JSON, 3 bytes. `value` stands
//!   last, so that the other columns are read without its overflow pages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::value::Kind;

/// Says that a file is ours: "STKD".
pub(crate) const APPLICATION_ID: i32 = 0x5354_4b44;

/// The layout that this code reads and writes.
pub(crate) const LAYOUT: i32 = 1;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

/// Pages of the write-ahead log from which on it is checkpointed while readers go on: 8 MiB.
pub(crate) const LOG_MOVED: u32 = 2048;

/// Bytes of the write-ahead log's file that stay allocated after a checkpoint.
pub(crate) const LOG_KEPT: u64 = LOG_MOVED as u64 * PAGE;

const TABLES: &str = "
CREATE TABLE keyspaces (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  keyspace INTEGER NOT NULL,
  version INTEGER NOT NULL,
  expires INTEGER,
  kind INTEGER NOT NULL,
  size INTEGER NOT NULL,
  key BLOB NOT NULL,
  value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_key ON entries (keyspace, key);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
";

/// How long another connection may hold the file.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// Frames that the write-ahead log has, as of the last commit.
pub(crate) type LogFrames = Arc<AtomicU32>;

/// Opens the connection that writes. Its file exists; it may be empty.
pub(crate) fn writer(path: &Path) -> rusqlite::Result<(Connection, LogFrames)> {
    let mut connection = open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE};
         PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = {};
         PRAGMA cache_size = -8192;",
        LOG_KEPT
    ))?;
    let frames = LogFrames::default();
    let seen = Arc::clone(&frames);
    // Takes the place of SQLite's own checkpoints, whose errors nobody would see.
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        seen.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    Ok((connection, frames))
}

/// Opens a connection that only reads.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA mmap_size = 0;",
    )?;
    Ok(connection)
}

/// Makes the tables of an empty file.
pub(crate) fn lay_out(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES}
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {LAYOUT};
         COMMIT;"
    ))
}

/// The number of a kind in the file.
pub(crate) const fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Text => 1,
        Kind::Json => 2,
        Kind::Bytes => 3,
    }
}

/// The kind of a number in the file; `None`: the file is damaged.
pub(crate) const fn kind_of(number: i64) -> Option<Kind> {
    match number {
        1 => Some(Kind::Text),
        2 => Some(Kind::Json),
        3 => Some(Kind::Bytes),
        _ => None,
    }
}

/// A number that this code never writes negative, as the file has it.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number as the file can hold it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
