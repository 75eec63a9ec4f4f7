//! Counters of what clients use, of which the quotas outlive the process.
//!
//! What quotas count is in memory, so that no request waits for a disk. A thread writes what has changed once a
//! second, and when the server ends. A process that is killed loses what was counted since: at most what came in that
//! second. While the file cannot be written, counting goes on, and is written later.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use stockade_limits::{COUNTER_KEY, CountedQuota, Counters, Now};

use crate::sqlite::{SqliteFault, private_file};

/// Marks the file as one of ours ("SKqu").
const APPLICATION_ID: i64 = 0x534b_7175;

/// How often what has changed is written.
const SAVE: Duration = Duration::from_secs(1);

/// How long a process that is just ending may have the file.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long a window is kept after its end, in seconds: the clock may be set back.
const KEPT: u64 = 2 * 24 * 60 * 60;

const TABLES: &str = "
CREATE TABLE place (key BLOB NOT NULL) STRICT;
CREATE TABLE quotas (tag INTEGER PRIMARY KEY, ends INTEGER NOT NULL, units INTEGER NOT NULL) STRICT;
";

/// Counters, and the file of their quotas if they have one. When the last clone is dropped, the file is written.
#[derive(Clone)]
pub struct Quotas {
    counters: Arc<Counters>,
    _saver: Option<Arc<Saver>>,
}

/// Ends the thread when it is dropped.
struct Saver {
    end: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Why the file of quotas cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// Another process has it.
    #[error("{0} is in use by another process\n  fix: give each server its own limits.quotas")]
    Used(PathBuf),
    /// Another kind of file.
    #[error("{0} is not a file of quotas\n  fix: name another file as limits.quotas")]
    Other(PathBuf),
    /// The system gave no random numbers.
    #[error("the operating system gave no random numbers (getrandom(2))")]
    Random,
    /// The file system refused.
    #[error("cannot open {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("no room is left on the disk of {path}\n  fix: make room")]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// The database refused.
    #[error("{path}: {source}")]
    Sqlite {
        /// Where.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

fn new_key() -> Result<[u8; COUNTER_KEY], QuotaError> {
    let mut key = [0; COUNTER_KEY];
    rand::fill(&mut key).map_err(|_| QuotaError::Random)?;
    Ok(key)
}

impl Quotas {
    /// Counters that end with the process, at most `capacity`.
    ///
    /// # Errors
    /// [`QuotaError::Random`].
    pub fn in_memory(capacity: usize) -> Result<Self, QuotaError> {
        Ok(Self {
            counters: Arc::new(Counters::new(capacity, new_key()?)),
            _saver: None,
        })
    }

    /// Counters whose quotas go on with what a file has, which is made if there is none, readable for this user only.
    ///
    /// # Errors
    /// When the file cannot be opened, is another kind of file, or another process has it.
    pub fn open(path: &Path, capacity: usize) -> Result<Self, QuotaError> {
        private_file(path).map_err(|source| QuotaError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut file = QuotaFile::open(path)?;
        let key = file.prepare().map_err(|error| failure(path, error))?;
        let counters = Arc::new(Counters::new(
            capacity,
            key.ok_or_else(|| QuotaError::Other(path.to_owned()))?,
        ));
        let saved = file.quotas(Now::read().seconds);
        for quota in saved.map_err(|error| failure(path, error))? {
            counters.restore(quota);
        }
        let (end, ended) = channel();
        let of_thread = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("quotas".to_owned())
            .spawn(move || save(&of_thread, &mut file, &ended))
            .map_err(|source| QuotaError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            counters,
            _saver: Some(Arc::new(Saver {
                end: Some(end),
                thread: Some(thread),
            })),
        })
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It has reported a panic by itself.
            let _ = thread.join();
        }
    }
}

/// The thread.
fn save(counters: &Counters, file: &mut QuotaFile, end: &Receiver<()>) {
    let mut failing = false;
    loop {
        let goes_on = end.recv_timeout(SAVE) == Err(RecvTimeoutError::Timeout);
        let changed = counters.changed_quotas();
        let saved = if changed.is_empty() {
            Ok(())
        } else {
            file.save(&changed, Now::read().seconds)
        };
        if let Err(error) = saved {
            counters.not_saved(&changed);
            if !std::mem::replace(&mut failing, true) {
                tracing::error!("what quotas count is not written until this is over: {error}");
            }
        } else if !changed.is_empty() && std::mem::take(&mut failing) {
            tracing::info!("what quotas count is written again");
        }
        if !goes_on {
            return;
        }
    }
}

/// The file: an SQLite database that one process writes to, and others may read.
struct QuotaFile {
    connection: Connection,
    /// Held as long as this process writes. A file of its own, for SQLite loses its locks on the database when the process
    /// closes it once (https://www.sqlite.org/howtocorrupt.html, 2.2).
    _lock: File,
}

impl QuotaFile {
    fn open(path: &Path) -> Result<Self, QuotaError> {
        let io = |source| QuotaError::Io {
            path: path.to_owned(),
            source,
        };
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        private_file(&lock).map_err(io)?;
        let lock = OpenOptions::new().write(true).open(&lock).map_err(io)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(io(error)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(QuotaError::Used(path.to_owned())),
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| failure(path, error))?;
        Ok(Self {
            connection,
            _lock: lock,
        })
    }

    /// Sets the file up, and gives the key by which its counters are named; `None`: it is another database.
    fn prepare(&mut self) -> rusqlite::Result<Option<[u8; COUNTER_KEY]>> {
        self.connection.busy_timeout(LOCK_WAIT)?;
        // Before anything is written: a file of something else stays as it is.
        let ask = |sql| {
            self.connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
        };
        if ask("PRAGMA application_id")? != APPLICATION_ID
            && ask("SELECT count(*) FROM sqlite_schema")? > 0
        {
            return Ok(None);
        }
        self.connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;",
        )?;
        let change = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if change.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        })? == 0
        {
            let Ok(key) = new_key() else {
                return Ok(None);
            };
            change.execute_batch(&format!(
                "{TABLES} PRAGMA application_id = {APPLICATION_ID};"
            ))?;
            change.execute("INSERT INTO place VALUES (?1)", [key])?;
        }
        let key = change
            .query_row("SELECT key FROM place", [], |row| row.get(0))
            .optional()?;
        change.commit()?;
        Ok(key)
    }

    /// What was counted in windows that have not ended.
    fn quotas(&self, now: u64) -> rusqlite::Result<Vec<CountedQuota>> {
        let mut rows = self
            .connection
            .prepare("SELECT tag, ends, units FROM quotas WHERE ends > ?1")?;
        let rows = rows.query_map([now.cast_signed()], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            Ok(CountedQuota {
                tag: number(0)?,
                ends: number(1)?,
                units: number(2)?,
            })
        })?;
        rows.collect()
    }

    fn save(&mut self, quotas: &[CountedQuota], now: u64) -> rusqlite::Result<()> {
        let change = self.connection.transaction()?;
        {
            let mut upsert = change.prepare_cached(
                "INSERT INTO quotas VALUES (?1, ?2, ?3) ON CONFLICT (tag) DO UPDATE SET ends = ?2, units = ?3",
            )?;
            for quota in quotas {
                upsert.execute(params![
                    quota.tag.cast_signed(),
                    quota.ends.cast_signed(),
                    quota.units.cast_signed()
                ])?;
            }
            let gone = now.saturating_sub(KEPT).cast_signed();
            // A few at a time: each save takes a bounded time.
            change.prepare_cached("DELETE FROM quotas WHERE tag IN (SELECT tag FROM quotas WHERE ends < ?1 LIMIT 10000)")?
                .execute([gone])?;
        }
        change.commit()
    }
}

fn failure(path: &Path, error: rusqlite::Error) -> QuotaError {
    let path = path.to_owned();
    match SqliteFault::from(error) {
        SqliteFault::Busy => QuotaError::Used(path),
        SqliteFault::NotADatabase => QuotaError::Other(path),
        SqliteFault::DiskFull => QuotaError::DiskFull { path },
        SqliteFault::Other(source) => QuotaError::Sqlite { path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use stockade_limits::{Allowance, Period};

    use super::*;

    fn take(quotas: &Quotas, units: u64) -> bool {
        let day = Allowance::new(NonZeroU64::new(10).unwrap(), Period::Month, None);
        let counters = quotas.counters();
        let counter = counters.id(counters.limit("of key"), b"key", None);
        counters.try_take(counter, &day, units, Now::read()).is_ok()
    }

    #[test]
    fn quota_goes_on_after_a_restart_and_one_process_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotas.db");
        let quotas = Quotas::open(&path, 1024).unwrap();
        assert!(take(&quotas, 6));
        assert!(matches!(
            Quotas::open(&path, 1024),
            Err(QuotaError::Used(_))
        ));
        drop(quotas);
        let quotas = Quotas::open(&path, 4096).unwrap();
        assert!(!take(&quotas, 6) && take(&quotas, 4));
        drop(quotas);
        let quotas = Quotas::open(&path, 1024).unwrap();
        assert!(!take(&quotas, 1));
        // Of another file nothing is known.
        assert!(take(&Quotas::in_memory(1024).unwrap(), 10));
    }

    #[test]
    fn file_is_for_its_user_and_another_kind_of_file_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotas.db");
        drop(Quotas::open(&path, 1024).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = folder.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        let before = std::fs::read(&other).unwrap();
        assert!(matches!(
            Quotas::open(&other, 1024),
            Err(QuotaError::Other(_))
        ));
        assert_eq!(std::fs::read(&other).unwrap(), before);
        std::fs::write(
            &other,
            "text, and long enough to be no header of a database, as it is",
        )
        .unwrap();
        assert!(Quotas::open(&other, 1024).is_err());
    }

    #[test]
    fn windows_that_ended_go_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotas.db");
        private_file(&path).unwrap();
        let mut file = QuotaFile::open(&path).unwrap();
        file.prepare().unwrap().unwrap();
        let quota = |tag, ends| CountedQuota {
            tag,
            ends,
            units: 5,
        };
        file.save(&[quota(u64::MAX, 1000), quota(2, 500_000)], 900)
            .unwrap();
        assert_eq!(file.quotas(900).unwrap().len(), 2);
        assert_eq!(file.quotas(1000).unwrap(), [quota(2, 500_000)]);
        file.save(&[quota(3, 600_000)], 400_000).unwrap();
        assert_eq!(file.quotas(0).unwrap().len(), 2);
    }
}
