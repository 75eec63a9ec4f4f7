//! The file: an SQLite database with a write-ahead log, with a row for each day, instance and key.
//!
//! Several processes may have it open: `stockade usage` reads it while a server writes to it, and a server that starts
//! while another one stops writes to it as well.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Value;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
    params_from_iter,
};
use stockade_auth::{KeyId, SqliteFault, private_file};

use crate::calendar::Day;
use crate::counts::Counts;

/// Marks the file as one of ours ("SKus").
const APPLICATION_ID: i64 = 0x534b_7573;

/// The layout of the tables.
const LAYOUT: i64 = 1;

/// The most that a number in the file becomes. Two of them have a sum that SQLite's integers can hold.
const MOST_COUNTED: i64 = i64::MAX / 2;

/// How long the number of the last batch of a writer is kept after that batch.
const WRITERS_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// How long another process may take to finish its transaction.
const BUSY: Duration = Duration::from_secs(5);

/// Whom a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// Nobody with an API key: requests without one, and what an instance did of itself.
    Nobody,
    /// The API key with this id.
    Key(KeyId),
    /// API keys above the number that is counted apart.
    Others,
}

impl Caller {
    /// The caller with the key of this number, if there is one.
    #[must_use]
    pub fn of(key: Option<u64>) -> Self {
        key.map_or(Self::Nobody, |number| Self::Key(KeyId::from_number(number)))
    }

    /// The text in the file, in JSON and in CSV: empty for nobody, `*` for the others.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Key(key) => key.to_string(),
            Self::Others => "*".to_owned(),
        }
    }

    /// Reads [`Caller::text`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::Nobody),
            "*" => Some(Self::Others),
            key => KeyId::parse(key).map(Self::Key),
        }
    }
}

/// What one key used of one instance on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The day, in UTC, on which it was counted.
    pub day: Day,
    /// The instance's name.
    pub instance: Arc<str>,
    /// Whose requests.
    pub caller: Caller,
    /// How much.
    pub counts: Counts,
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Use of this instance alone.
    pub instance: Option<String>,
    /// Use of this caller alone.
    pub caller: Option<Caller>,
    /// From this day on.
    pub since: Option<Day>,
    /// Up to this day, which is included.
    pub until: Option<Day>,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no file.
    #[error(
        "{path} does not exist\n  fix: name the file with --store, or add `usage: {{ path: … }}` to the configuration and start the server"
    )]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Another kind of file.
    #[error(
        "{path} is not a store of usage{why}\n  fix: name the store with --store, or as usage.path in the configuration"
    )]
    NotAStore {
        /// Where.
        path: PathBuf,
        /// What is known.
        why: &'static str,
    },
    /// The disk is full.
    #[error(
        "no room is left on the disk of {path}\n  fix: make room; until then the counts are kept in memory"
    )]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// Another process writes for long.
    #[error(
        "{path} is in use by another process, which did not finish within 5 s\n  fix: try again"
    )]
    Busy {
        /// Where.
        path: PathBuf,
    },
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

fn failure(path: &Path, error: rusqlite::Error) -> StoreError {
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

/// The file.
pub struct Store {
    path: PathBuf,
    connection: Connection,
    /// Rows with a key, of the days that were written to lately.
    keys: HashMap<Day, u64>,
}

/// A batch of one writer.
pub(crate) struct Batch<'a> {
    /// Random, of the writer.
    pub(crate) writer: i64,
    /// Grows by one with each batch of the writer.
    pub(crate) number: i64,
    pub(crate) rows: &'a [Row],
    /// Keys that one day has rows of, of all instances.
    pub(crate) most_keys: u64,
}

impl Store {
    /// Opens the file to write, and makes it if there is none, readable for this user only.
    ///
    /// # Errors
    /// When the file cannot be opened, or is another kind of file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        private_file(path).map_err(io)?;
        let mut store = Self::connect(path)?;
        store.check(true)?;
        store
            .connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 1048576;")
            .map_err(|error| failure(path, error))?;
        store.change(|transaction| {
            let layout: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if layout == 0 {
                transaction.execute_batch(&format!(
                    "{} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {LAYOUT};",
                    tables()
                ))?;
            }
            Ok(())
        })?;
        store.check(false)?;
        Ok(store)
    }

    /// Opens the file to read it, also while a server writes to it.
    ///
    /// # Errors
    /// When there is no such file, it cannot be opened, or it is another kind of file.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        // One that this user may not look for is reported when it is opened.
        if !path.try_exists().unwrap_or(true) {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let store = Self::connect(path)?;
        store.check(false)?;
        store
            .connection
            .execute_batch("PRAGMA query_only = ON;")
            .map_err(|error| failure(path, error))?;
        Ok(store)
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| failure(path, error);
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;
                 PRAGMA mmap_size = 0; PRAGMA cache_size = -4096;",
            )
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            keys: HashMap::new(),
        })
    }

    /// Whether the file is one of ours. With `or_empty`, one without tables is fine.
    fn check(&self, or_empty: bool) -> Result<(), StoreError> {
        let ask = |sql| {
            self.connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map_err(|error| failure(&self.path, error))
        };
        let not_ours = |why| StoreError::NotAStore {
            path: self.path.clone(),
            why,
        };
        if or_empty && ask("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(());
        }
        if ask("PRAGMA application_id")? != APPLICATION_ID {
            return Err(not_ours(": it is another database"));
        }
        match ask("PRAGMA user_version")? {
            LAYOUT => Ok(()),
            _ => Err(not_ours(" of this version: a newer program made it")),
        }
    }

    /// A random number.
    pub(crate) fn random(&self) -> Result<i64, StoreError> {
        self.connection
            .query_row("SELECT random()", [], |row| row.get(0))
            .map_err(|error| failure(&self.path, error))
    }

    fn change<T>(
        &mut self,
        run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let failed = |error| failure(path, error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let value = run(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// Adds a batch to the file, in one transaction. A batch that is in the file already changes nothing.
    pub(crate) fn write(&mut self, batch: &Batch<'_>, now: SystemTime) -> Result<(), StoreError> {
        let mut keys = std::mem::take(&mut self.keys);
        // What is known of days long gone is not needed.
        if keys.len() > 16 {
            keys.clear();
        }
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let written = self.change(|transaction| {
            let last: Option<i64> = transaction
                .query_row(
                    "SELECT batch FROM writers WHERE id = ?1",
                    [batch.writer],
                    |row| row.get(0),
                )
                .optional()?;
            if last.is_some_and(|last| last >= batch.number) {
                return Ok(());
            }
            for row in batch.rows {
                add(transaction, row, batch.most_keys, &mut keys)?;
            }
            transaction.execute(
                "INSERT INTO writers (id, batch, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at",
                params![batch.writer, batch.number, seconds],
            )?;
            let kept = i64::try_from(WRITERS_KEPT.as_secs()).unwrap_or(i64::MAX);
            transaction.execute(
                "DELETE FROM writers WHERE at < ?1 AND id <> ?2",
                params![seconds.saturating_sub(kept), batch.writer],
            )?;
            Ok(())
        });
        // Of a transaction that was undone nothing is known.
        if written.is_ok() {
            self.keys = keys;
        }
        written
    }

    /// Removes the rows of days before `first`.
    pub(crate) fn remove_before(&mut self, first: Day) -> Result<usize, StoreError> {
        self.change(|transaction| {
            transaction.execute("DELETE FROM usage WHERE day < ?1", [first.number()])
        })
    }

    /// The rows that match, by day, instance and key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.each(query, |row| {
            rows.push(row);
            true
        })?;
        Ok(rows)
    }

    /// Gives the rows that match to `take`, in the order of [`Store::rows`], until it returns `false`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn each(&self, query: &Query, take: impl FnMut(Row) -> bool) -> Result<(), StoreError> {
        self.read(query, take)
            .map_err(|error| failure(&self.path, error))
    }

    fn read(&self, query: &Query, mut take: impl FnMut(Row) -> bool) -> rusqlite::Result<()> {
        let columns = Counts::NAMES.join(", ");
        let sql = format!(
            "SELECT day, instance, key, {columns} FROM usage
             WHERE (?1 IS NULL OR day >= ?1) AND (?2 IS NULL OR day <= ?2)
               AND (?3 IS NULL OR instance = ?3) AND (?4 IS NULL OR key = ?4)
             ORDER BY day, instance, key"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(params![
            query.since.map(Day::number),
            query.until.map(Day::number),
            query.instance,
            query.caller.map(Caller::text),
        ])?;
        while let Some(row) = rows.next()? {
            let mut values = [0; Counts::NAMES.len()];
            for (at, value) in values.iter_mut().enumerate() {
                *value = u64::try_from(row.get::<_, i64>(3 + at)?).unwrap_or(0);
            }
            let (instance, key): (String, String) = (row.get(1)?, row.get(2)?);
            let row = Row {
                day: Day::of_number(row.get(0)?),
                instance: instance.into(),
                // A text of a newer program counts with the others.
                caller: Caller::parse(&key).unwrap_or(Caller::Others),
                counts: Counts::of_values(values),
            };
            if !take(row) {
                break;
            }
        }
        Ok(())
    }
}

fn tables() -> String {
    let columns: String = Counts::NAMES
        .iter()
        .map(|name| format!("{name} INTEGER NOT NULL, "))
        .collect();
    format!(
        "CREATE TABLE usage (day INTEGER NOT NULL, instance TEXT NOT NULL, key TEXT NOT NULL, {columns}
           PRIMARY KEY (day, instance, key)) STRICT, WITHOUT ROWID;
         CREATE TABLE writers (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;"
    )
}

/// Adds to a row, or makes it. A key that would be one too many for its day counts with the others.
fn add(
    transaction: &Transaction<'_>,
    row: &Row,
    most_keys: u64,
    keys: &mut HashMap<Day, u64>,
) -> rusqlite::Result<()> {
    if update(transaction, row, row.caller)? {
        return Ok(());
    }
    let Caller::Key(_) = row.caller else {
        return insert(transaction, row, row.caller);
    };
    let known = match keys.get(&row.day) {
        Some(known) => *known,
        None => {
            let of_keys = "SELECT count(*) FROM usage WHERE day = ?1 AND key NOT IN ('', '*')";
            transaction
                .query_row(of_keys, [row.day.number()], |found| found.get::<_, i64>(0))?
                .unsigned_abs()
        }
    };
    if known < most_keys {
        keys.insert(row.day, known + 1);
        return insert(transaction, row, row.caller);
    }
    keys.insert(row.day, known);
    if update(transaction, row, Caller::Others)? {
        return Ok(());
    }
    insert(transaction, row, Caller::Others)
}

/// The values of a statement: the day, the instance, the key, and the counts.
fn values(row: &Row, caller: Caller) -> impl Iterator<Item = Value> {
    let counts = row.counts.values().into_iter();
    let counts = counts.map(|count| {
        i64::try_from(count)
            .unwrap_or(MOST_COUNTED)
            .min(MOST_COUNTED)
    });
    [
        Value::Integer(row.day.number()),
        Value::Text(row.instance.to_string()),
        Value::Text(caller.text()),
    ]
    .into_iter()
    .chain(counts.map(Value::Integer))
}

fn update(transaction: &Transaction<'_>, row: &Row, caller: Caller) -> rusqlite::Result<bool> {
    let sums: Vec<String> = Counts::NAMES
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{name} = min({name} + ?{}, {MOST_COUNTED})", at + 4))
        .collect();
    let sql = format!(
        "UPDATE usage SET {} WHERE day = ?1 AND instance = ?2 AND key = ?3",
        sums.join(", ")
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    Ok(statement.execute(params_from_iter(values(row, caller)))? > 0)
}

fn insert(transaction: &Transaction<'_>, row: &Row, caller: Caller) -> rusqlite::Result<()> {
    let places: Vec<String> = (1..=Counts::NAMES.len() + 3)
        .map(|at| format!("?{at}"))
        .collect();
    let sql = format!("INSERT INTO usage VALUES ({})", places.join(", "));
    let mut statement = transaction.prepare_cached(&sql)?;
    statement.execute(params_from_iter(values(row, caller)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: u32, key: Option<u64>, requests: u64) -> Row {
        Row {
            day: Day::of_number(day.into()),
            instance: "shop".into(),
            caller: Caller::of(key),
            counts: Counts {
                requests,
                ..Counts::default()
            },
        }
    }

    fn write(store: &mut Store, number: i64, rows: &[Row], most_keys: u64) {
        let batch = Batch {
            writer: 7,
            number,
            rows,
            most_keys,
        };
        store.write(&batch, SystemTime::now()).unwrap();
    }

    fn requests(store: &Store, query: &Query) -> Vec<(Caller, u64)> {
        let rows = store.rows(query).unwrap();
        rows.iter()
            .map(|row| (row.caller, row.counts.requests))
            .collect()
    }

    #[test]
    fn batch_that_is_written_twice_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let mut store = Store::open(&path).unwrap();
        write(&mut store, 1, &[row(1, None, 5), row(1, Some(2), 1)], 10);
        write(&mut store, 1, &[row(1, None, 5)], 10);
        write(&mut store, 2, &[row(1, None, 3)], 10);
        drop(store);
        let store = Store::open_to_read(&path).unwrap();
        let found = requests(&store, &Query::default());
        assert_eq!(found, [(Caller::Nobody, 8), (Caller::of(Some(2)), 1)]);
    }

    #[test]
    fn keys_above_the_most_of_a_day_count_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("usage.db")).unwrap();
        write(&mut store, 1, &[row(1, Some(1), 1), row(1, Some(2), 1)], 2);
        write(
            &mut store,
            2,
            &[row(1, Some(3), 1), row(1, Some(1), 1), row(1, None, 1)],
            2,
        );
        write(&mut store, 3, &[row(1, Some(4), 1), row(2, Some(4), 1)], 2);
        let mut found = requests(
            &store,
            &Query {
                until: Some(Day::of_number(1)),
                ..Query::default()
            },
        );
        found.sort();
        let of = |key| Caller::of(Some(key));
        assert_eq!(
            found,
            [
                (Caller::Nobody, 1),
                (of(1), 2),
                (of(2), 1),
                (Caller::Others, 2)
            ]
        );
        let next = Query {
            since: Some(Day::of_number(2)),
            ..Query::default()
        };
        assert_eq!(requests(&store, &next), [(of(4), 1)]);
    }

    #[test]
    fn count_that_is_too_large_stays_at_the_most() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("usage.db")).unwrap();
        for number in 1..4 {
            write(&mut store, number, &[row(1, None, u64::MAX)], 2);
        }
        assert_eq!(
            requests(&store, &Query::default()),
            [(Caller::Nobody, MOST_COUNTED.unsigned_abs())]
        );
    }

    #[test]
    fn query_selects_and_old_days_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("usage.db")).unwrap();
        write(
            &mut store,
            1,
            &[row(1, None, 1), row(2, Some(9), 2), row(3, None, 3)],
            9,
        );
        let of_key = Query {
            caller: Some(Caller::of(Some(9))),
            ..Query::default()
        };
        assert_eq!(requests(&store, &of_key).len(), 1);
        let of_other = Query {
            instance: Some("other".to_owned()),
            ..Query::default()
        };
        assert!(requests(&store, &of_other).is_empty());
        assert_eq!(store.remove_before(Day::of_number(3)).unwrap(), 2);
        assert_eq!(requests(&store, &Query::default()), [(Caller::Nobody, 3)]);
    }

    #[test]
    fn file_of_something_else_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        assert!(matches!(
            Store::open_to_read(&path),
            Err(StoreError::Missing { .. })
        ));
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE a (b)").unwrap();
        drop(other);
        for opened in [Store::open(&path), Store::open_to_read(&path)] {
            assert!(matches!(opened, Err(StoreError::NotAStore { .. })));
        }
        std::fs::write(
            &path,
            "no database, but long enough to be taken for the header of one".repeat(9),
        )
        .unwrap();
        assert!(matches!(
            Store::open(&path),
            Err(StoreError::NotAStore { .. })
        ));
    }
}
