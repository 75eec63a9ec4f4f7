//! What a server asks of the store: everything, then what has changed.

use rusqlite::{Row, params};

use super::error::{StoreError, failure};
use super::record::KeyId;
use super::{Store, column};
use crate::hash::KeyHash;

/// A text of a key as checks need it.
pub(crate) struct ActiveSecret {
    pub(crate) hash: KeyHash,
    pub(crate) id: KeyId,
    /// When the key or its text ends; `u32::MAX`: never.
    pub(crate) expires: u32,
    /// [`crate::index::Granted`] describes it.
    pub(crate) text: Box<str>,
}

/// What has changed since a number.
pub(crate) enum Changed {
    /// These keys have changed.
    Keys(Vec<KeyId>),
    /// More than is remembered.
    Everything,
}

/// Something that was done to a key, for a record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAction {
    /// Counts all actions on the store.
    pub number: u64,
    /// The key.
    pub id: KeyId,
    /// `created`, `rotated`, `revoked` or `imported`.
    pub action: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Store {
    /// The first actions that were not reported yet, at most `most`.
    pub(crate) fn unreported(&self, most: u32) -> Result<Vec<KeyAction>, StoreError> {
        let read = || {
            let mut rows = (self.connection).prepare_cached(
                "SELECT number, key, action, at FROM changes
                 WHERE number > (SELECT number FROM reported) AND action <> '' ORDER BY number LIMIT ?1",
            )?;
            let rows = rows.query_map([most], |row| {
                Ok(KeyAction {
                    number: row.get::<_, i64>(0)?.cast_unsigned(),
                    id: KeyId::of_column(row.get(1)?),
                    action: row.get(2)?,
                    at: row.get::<_, i64>(3)?.cast_unsigned(),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| failure(&self.path, error))
    }

    /// Notes that an action and all before it were reported.
    pub(crate) fn reported(&mut self, number: u64) -> Result<(), StoreError> {
        self.change(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE reported SET number = ?1")?;
            update.execute([number.cast_signed()])?;
            Ok(Ok(()))
        })
    }

    /// Notes when keys were used, in seconds since 1970. Is no change for servers.
    pub(crate) fn used(&mut self, uses: &[(KeyId, u64)]) -> Result<(), StoreError> {
        self.change(|transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1",
            )?;
            for (id, at) in uses {
                update.execute(params![id.column(), column(*at)])?;
            }
            Ok(Ok(()))
        })
    }

    /// Changes whenever another connection has changed the file.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        self.ask("PRAGMA data_version")
    }

    /// How many texts of keys there are.
    pub(crate) fn count_secrets(&self) -> Result<usize, StoreError> {
        let count: i64 = self.ask("SELECT count(*) FROM secrets")?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Reads as of one instant: runs `read` in a transaction that sees no change of others.
    pub(crate) fn snapshot<T>(
        &mut self,
        read: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = |error| failure(&self.path, error);
        self.connection.execute_batch("BEGIN").map_err(failed)?;
        let value = read(self);
        let ended = self.connection.execute_batch("COMMIT");
        let value = value?;
        ended.map_err(|error| failure(&self.path, error))?;
        Ok(value)
    }

    /// The number of the last change.
    pub(crate) fn last_change(&self) -> Result<i64, StoreError> {
        self.ask("SELECT coalesce(max(number), 0) FROM changes")
    }

    /// The keys that were changed after a number.
    pub(crate) fn changed_after(&self, number: i64) -> Result<Changed, StoreError> {
        let first: i64 = self.ask("SELECT coalesce(min(number), 0) FROM changes")?;
        if first > number + 1 || self.last_change()? < number {
            return Ok(Changed::Everything);
        }
        let read = || {
            let mut rows = (self.connection)
                .prepare_cached("SELECT DISTINCT key FROM changes WHERE number > ?1")?;
            let keys = rows.query_map([number], |row| Ok(KeyId::of_column(row.get(0)?)))?;
            keys.collect::<rusqlite::Result<Vec<_>>>()
        };
        read()
            .map(Changed::Keys)
            .map_err(|error| failure(&self.path, error))
    }

    /// Passes on each text of each key that may be used now.
    pub(crate) fn each_active(
        &self,
        now: u64,
        mut take: impl FnMut(ActiveSecret),
    ) -> Result<(), StoreError> {
        let mut read = || {
            let sql = format!(
                "{ACTIVE} AND (ends IS NULL OR ends > ?1) AND (expires IS NULL OR expires > ?1)"
            );
            let mut rows = self.connection.prepare(&sql)?;
            let mut rows = rows.query([column(now)])?;
            while let Some(row) = rows.next()? {
                take(active(row)?);
            }
            Ok(())
        };
        read().map_err(|error| failure(&self.path, error))
    }

    /// The hash of each text of a key, and those texts that are not revoked.
    pub(crate) fn secrets_of(
        &self,
        id: KeyId,
    ) -> Result<(Vec<KeyHash>, Vec<ActiveSecret>), StoreError> {
        let read = || {
            let mut all =
                (self.connection).prepare_cached("SELECT hash FROM secrets WHERE key = ?1")?;
            let all = all.query_map([id.column()], |row| row.get(0).map(KeyHash))?;
            let all = all.collect::<rusqlite::Result<Vec<_>>>()?;
            let sql = format!("{ACTIVE} AND secrets.key = ?1");
            let mut rows = self.connection.prepare_cached(&sql)?;
            let valid = rows.query_map([id.column()], active)?;
            Ok((all, valid.collect::<rusqlite::Result<Vec<_>>>()?))
        };
        read().map_err(|error| failure(&self.path, error))
    }
}

const ACTIVE: &str =
    "SELECT hash, secrets.key, ends, expires, name, owner, scopes, metadata, limits
     FROM secrets JOIN keys ON keys.id = secrets.key WHERE revoked IS NULL";

fn active(row: &Row<'_>) -> rusqlite::Result<ActiveSecret> {
    let end = |at: usize| {
        let end: Option<i64> = row.get(at)?;
        Ok::<_, rusqlite::Error>(end.map_or(u32::MAX, |end| {
            u32::try_from(end.max(0)).unwrap_or(u32::MAX)
        }))
    };
    let field = |at: usize| row.get_ref(at).and_then(|value| Ok(value.as_str()?));
    let metadata = field(7)?;
    let metadata = if metadata == "{}" { "" } else { metadata };
    let (name, owner, scopes, limits) = (field(4)?, field(5)?, field(6)?, field(8)?);
    let text = format!("{name}\n{owner}\n{scopes}\n{limits}\n{metadata}");
    Ok(ActiveSecret {
        hash: KeyHash(row.get(0)?),
        id: KeyId::of_column(row.get(1)?),
        expires: end(2)?.min(end(3)?),
        text: text.into(),
    })
}
