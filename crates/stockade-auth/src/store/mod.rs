//! The file of all keys: an SQLite database with a write-ahead log.
//!
//! Several processes may have it open: `stockade keys` changes it while a server uses it. Each change is one
//! transaction that is on the disk before it is acknowledged, and adds a row to `changes`, by which a server learns
//! which keys to read again.

mod error;
mod follow;
mod record;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};

use crate::hash::{KeyHash, Pepper};
use crate::key::ApiKey;
use crate::limits::KeyLimits;
use crate::scope::Scopes;
use crate::sqlite::private_file;

pub use error::StoreError;
use error::failure;
pub use follow::KeyAction;
pub(crate) use follow::{ActiveSecret, Changed};
pub use record::{
    Export, ImportReport, KeyFields, KeyId, KeyRecord, NewKey, SecretRecord, Status, Verified,
};

/// Marks the file as one of ours ("SKky").
const APPLICATION_ID: i64 = 0x534b_6b79;

/// The layout of the tables.
const LAYOUT: i64 = 2;

/// Rows of `changes` that are kept. A server that is further behind reads all keys again.
const KEPT_CHANGES: i64 = 100_000;

/// Characters of a name or an owner.
const MAX_NAME_CHARS: usize = 128;

/// Bytes of metadata as JSON.
const MAX_METADATA: usize = 4096;

/// Secrets that one key may have at a time: more would be rotations within each other's overlap.
const MAX_SECRETS: i64 = 8;

const TABLES: &str = "
CREATE TABLE pepper (fingerprint BLOB NOT NULL) STRICT;
CREATE TABLE keys (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, scopes TEXT NOT NULL, metadata TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER, revoked INTEGER, last_used INTEGER,
  limits TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE secrets (
  hash BLOB PRIMARY KEY, key INTEGER NOT NULL REFERENCES keys (id), hint TEXT NOT NULL,
  created INTEGER NOT NULL, ends INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_of_key ON secrets (key);
CREATE TABLE changes (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key INTEGER NOT NULL, action TEXT NOT NULL DEFAULT '',
  at INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE reported (number INTEGER NOT NULL) STRICT;
INSERT INTO reported VALUES (0);
";

/// What the first layout had not.
const FROM_LAYOUT_1: &str = "
ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
CREATE TABLE reported (number INTEGER NOT NULL) STRICT;
INSERT INTO reported SELECT coalesce(max(number), 0) FROM changes;
";

const KEY_COLUMNS: &str =
    "id, name, owner, scopes, metadata, created, expires, revoked, last_used, limits";

/// The file of all keys.
pub struct Store {
    path: PathBuf,
    pepper: Pepper,
    connection: Connection,
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Store {
    /// Opens the store of a file, and makes it if there is none, readable for this user only.
    ///
    /// # Errors
    /// When the file cannot be opened, is another kind of file, or was made with another pepper.
    pub fn open(path: &Path, pepper: Pepper) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        private_file(path).map_err(io)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| failure(path, error))?;
        let mut store = Self {
            path: path.to_owned(),
            pepper,
            connection,
        };
        store.prepare()?;
        Ok(store)
    }

    /// Sets the connection up, and makes the tables of an empty file.
    fn prepare(&mut self) -> Result<(), StoreError> {
        self.connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(|error| failure(&self.path, error))?;
        // Before anything is written: a file of something else stays as it is.
        let id: i64 = self.ask("PRAGMA application_id")?;
        let tables: i64 = self.ask("SELECT count(*) FROM sqlite_schema")?;
        let path = self.path.clone();
        let not_ours = |why| StoreError::NotAStore {
            path: path.clone(),
            why,
        };
        if id != APPLICATION_ID && tables > 0 {
            return Err(not_ours(": it is another database"));
        }
        let set_up =
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;
             PRAGMA mmap_size = 0;";
        self.connection
            .execute_batch(set_up)
            .map_err(|error| failure(&self.path, error))?;
        let fingerprint = self.pepper.fingerprint();
        self.change(|transaction| {
            let layout: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if layout == 0 {
                transaction.execute_batch(&format!(
                    "{TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {LAYOUT};"
                ))?;
                transaction.execute("INSERT INTO pepper VALUES (?1)", [fingerprint.0])?;
            }
            if layout == 1 {
                transaction.execute_batch(&format!(
                    "{FROM_LAYOUT_1} PRAGMA user_version = {LAYOUT};"
                ))?;
            }
            Ok(Ok(()))
        })?;
        let layout: i64 = self.ask("PRAGMA user_version")?;
        if layout != LAYOUT {
            return Err(not_ours(" of this version: a newer program made it"));
        }
        let kept: [u8; 32] = self.ask("SELECT fingerprint FROM pepper")?;
        if KeyHash(kept) != fingerprint {
            return Err(StoreError::OtherPepper {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn ask<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, StoreError> {
        self.connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|error| failure(&self.path, error))
    }

    /// Runs a change as one transaction: all of it or none.
    fn change<T>(
        &mut self,
        run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let failed = |error| failure(path, error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let value = run(&transaction).map_err(failed)??;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When a field cannot be kept, or the store cannot be written.
    pub fn create(&mut self, fields: &KeyFields, now: SystemTime) -> Result<NewKey, StoreError> {
        let now = seconds(now);
        let scopes = check_fields(fields, now)?;
        let metadata = metadata_text(&fields.metadata)?;
        let (id, key) = (KeyId::generate()?, ApiKey::generate()?);
        let hash = self.pepper.hash(&key);
        let record = self.change(|transaction| {
            transaction.execute(
                "INSERT INTO keys (id, name, owner, scopes, metadata, created, expires, limits)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    id.column(),
                    fields.name,
                    fields.owner,
                    scopes,
                    metadata,
                    column(now),
                    fields.expires.map(column),
                    fields.limits.text()
                ],
            )?;
            add_secret(transaction, id, hash, key.hint(), now)?;
            changed(transaction, id, "created")?;
            record(transaction, id)
        })?;
        Ok(NewKey { key, record })
    }

    /// All keys, in the order in which they were made; of one owner where that is given.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, owner: Option<&str>) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(owner, false)
            .map_err(|error| failure(&self.path, error))
    }

    fn records(&self, owner: Option<&str>, hashes: bool) -> rusqlite::Result<Vec<KeyRecord>> {
        let sql = format!(
            "SELECT {KEY_COLUMNS} FROM keys WHERE ?1 IS NULL OR owner = ?1 ORDER BY created, id"
        );
        let mut keys = self.connection.prepare(&sql)?;
        let rows = keys.query_map([owner], record_of)?;
        rows.map(|row| {
            let mut record = row?;
            record.secrets = secrets(&self.connection, record.id, hashes)?;
            Ok(record)
        })
        .collect()
    }

    /// One key.
    ///
    /// # Errors
    /// When there is none of this id, or the store cannot be read.
    pub fn show(&self, id: KeyId) -> Result<KeyRecord, StoreError> {
        record(&self.connection, id).map_err(|error| failure(&self.path, error))?
    }

    /// Gives a key another text. The texts before stay valid for `overlap`.
    ///
    /// # Errors
    /// When there is no such key, it was revoked, or the store cannot be written.
    pub fn rotate(
        &mut self,
        id: KeyId,
        overlap: Duration,
        now: SystemTime,
    ) -> Result<NewKey, StoreError> {
        let now = seconds(now);
        let key = ApiKey::generate()?;
        let hash = self.pepper.hash(&key);
        let ends = column(
            now.saturating_add(overlap.as_secs())
                .min(u64::from(u32::MAX) - 1),
        );
        let record = self.change(|transaction| {
            let before = match record(transaction, id)? {
                Ok(before) => before,
                Err(error) => return Ok(Err(error)),
            };
            if before.revoked.is_some() {
                return Ok(Err(StoreError::Revoked(id)));
            }
            // Texts that ended long ago are of no use to anybody.
            transaction.execute(
                "DELETE FROM secrets WHERE key = ?1 AND ends < ?2",
                params![id.column(), column(now.saturating_sub(30 * 24 * 3600))],
            )?;
            transaction.execute(
                "UPDATE secrets SET ends = ?2 WHERE key = ?1 AND (ends IS NULL OR ends > ?2)",
                params![id.column(), ends],
            )?;
            let valid: i64 = transaction.query_row(
                "SELECT count(*) FROM secrets WHERE key = ?1 AND ends > ?2",
                params![id.column(), column(now)],
                |row| row.get(0),
            )?;
            if valid >= MAX_SECRETS {
                return Ok(Err(StoreError::TooManySecrets { id }));
            }
            add_secret(transaction, id, hash, key.hint(), now)?;
            changed(transaction, id, "rotated")?;
            self::record(transaction, id)
        })?;
        Ok(NewKey { key, record })
    }

    /// Revokes a key for ever. Revoking it again changes nothing.
    ///
    /// # Errors
    /// When there is no such key, or the store cannot be written.
    pub fn revoke(&mut self, id: KeyId, now: SystemTime) -> Result<KeyRecord, StoreError> {
        self.change(|transaction| {
            transaction.execute(
                "UPDATE keys SET revoked = coalesce(revoked, ?2) WHERE id = ?1",
                params![id.column(), column(seconds(now))],
            )?;
            changed(transaction, id, "revoked")?;
            record(transaction, id)
        })
    }

    /// What the store knows of a text; `None`: it is not a key of this store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn verify(&self, key: &ApiKey, now: SystemTime) -> Result<Option<Verified>, StoreError> {
        let hash = self.pepper.hash(key);
        let found = self
            .connection
            .query_row(
                "SELECT key, ends FROM secrets WHERE hash = ?1",
                [hash.0],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
            )
            .optional()
            .map_err(|error| failure(&self.path, error))?;
        let Some((id, ends)) = found else {
            return Ok(None);
        };
        let record = self.show(KeyId::of_column(id))?;
        let now = seconds(now);
        let status = match record.status(now) {
            Status::Active if ends.is_some_and(|ends| unsigned(ends) <= now) => Status::Expired,
            status => status,
        };
        Ok(Some(Verified { record, status }))
    }
}

fn add_secret(
    connection: &Connection,
    id: KeyId,
    hash: KeyHash,
    hint: &str,
    now: u64,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO secrets (hash, key, hint, created) VALUES (?1, ?2, ?3, ?4)",
        params![hash.0, id.column(), hint, column(now)],
    )?;
    Ok(())
}

fn changed(connection: &Connection, id: KeyId, action: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO changes (key, action, at) VALUES (?1, ?2, ?3)",
        params![id.column(), action, column(seconds(SystemTime::now()))],
    )?;
    let last = connection.last_insert_rowid();
    connection.execute(
        "DELETE FROM changes WHERE number <= ?1",
        [last - KEPT_CHANGES],
    )?;
    Ok(())
}

fn record(connection: &Connection, id: KeyId) -> rusqlite::Result<Result<KeyRecord, StoreError>> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM keys WHERE id = ?1");
    let found = connection
        .query_row(&sql, [id.column()], record_of)
        .optional()?;
    let Some(mut record) = found else {
        return Ok(Err(StoreError::NoKey(id)));
    };
    record.secrets = secrets(connection, id, false)?;
    Ok(Ok(record))
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let time = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(unsigned));
    let (scopes, metadata): (String, String) = (row.get(3)?, row.get(4)?);
    let limits: String = row.get(9)?;
    let metadata = serde_json::from_str(&metadata).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(KeyRecord {
        id: KeyId::of_column(row.get(0)?),
        name: row.get(1)?,
        owner: row.get(2)?,
        scopes: Scopes(&scopes).iter().map(str::to_owned).collect(),
        metadata,
        limits: KeyLimits::of_text(&limits),
        created: unsigned(row.get(5)?),
        expires: time(6)?,
        revoked: time(7)?,
        last_used: time(8)?,
        secrets: Vec::new(),
    })
}

fn secrets(
    connection: &Connection,
    id: KeyId,
    hashes: bool,
) -> rusqlite::Result<Vec<SecretRecord>> {
    let mut rows = connection.prepare_cached(
        "SELECT hint, created, ends, hash FROM secrets WHERE key = ?1 ORDER BY created, hash",
    )?;
    let rows = rows.query_map([id.column()], |row| {
        let hash = row.get(3).map(KeyHash)?;
        Ok(SecretRecord {
            hint: row.get(0)?,
            created: unsigned(row.get(1)?),
            ends: row.get::<_, Option<i64>>(2)?.map(unsigned),
            hash: hashes.then(|| hash.to_hex()),
        })
    })?;
    rows.collect()
}

/// Checks what is chosen of a key, and gives the text of its scopes.
fn check_fields(fields: &KeyFields, now: u64) -> Result<String, StoreError> {
    check_text("the name", &fields.name, false)?;
    check_text("the owner", &fields.owner, true)?;
    if let Some(expires) = fields.expires
        && (expires <= now || expires >= u64::from(u32::MAX))
    {
        return Err(StoreError::Expiry(expires));
    }
    Ok(Scopes::text(&fields.scopes)?)
}

fn check_text(what: &'static str, text: &str, may_be_empty: bool) -> Result<(), StoreError> {
    let why = if text.is_empty() && !may_be_empty {
        "is empty"
    } else if text.chars().count() > MAX_NAME_CHARS {
        "is too long"
    } else if text.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    Err(StoreError::Text { what, why })
}

fn metadata_text(
    metadata: &serde_json::Map<String, serde_json::Value>,
) -> Result<String, StoreError> {
    let text = serde_json::to_string(metadata).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_METADATA {
        return Err(StoreError::Metadata(text.len()));
    }
    // Text that begins with NUL has a meaning in messages to guests.
    if text.contains("\\u0000") {
        return Err(StoreError::Text {
            what: "the metadata",
            why: "has a NUL",
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
