//! One transaction, and the commits in it.
//!
//! Invariant: a commit first finds out everything that could refuse it, then changes; so a refused one
//! leaves nothing behind in the transaction that it shares. An error of SQLite ends the whole
//! transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::connection::{kind_number, signed, unsigned};
use super::shared::{Account, Accounts, OpenKeyspace};
use crate::atomic::{Atomic, MAX_TTL, Mutation, Outcome};
use crate::error::StateError;
use crate::key::Key;
use crate::limits::Limits;
use crate::value::Version;
use crate::watch::{Change, ChangeKind};

/// Entries that one sweep removes at most, so that a commit never waits long for it.
pub(crate) const SWEEP: usize = 512;

/// What a transaction does to one keyspace.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) account: Account,
    pub(crate) changes: Vec<Change>,
}

/// What a transaction did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) touched: HashMap<i64, Touched>,
    pub(crate) swept: usize,
    /// The earliest expiry of what was written.
    pub(crate) expires_ms: Option<i64>,
}

/// A transaction that is under way.
pub(crate) struct Group<'c> {
    transaction: Transaction<'c>,
    accounts: &'c Accounts,
    now_ms: i64,
    done: Done,
}

/// A row that is there, live or expired.
struct Found {
    row: i64,
    version: Version,
    size: u64,
    live: bool,
}

/// A row whose time is over.
struct Expired {
    row: i64,
    keyspace: i64,
    key: Vec<u8>,
    size: u64,
}

/// A change that is going to be made.
struct Plan<'a> {
    key: &'a Key,
    mutation: &'a Mutation,
    found: Option<Found>,
}

impl<'c> Group<'c> {
    pub(crate) fn begin(
        connection: &'c Connection,
        accounts: &'c Accounts,
        now_ms: i64,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            transaction: Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?,
            accounts,
            now_ms,
            done: Done::default(),
        })
    }

    /// Makes everything durable.
    pub(crate) fn finish(self) -> rusqlite::Result<Done> {
        {
            let mut update = self.transaction.prepare_cached(
                "UPDATE keyspaces SET version = ?2, entries = ?3, bytes = ?4 WHERE id = ?1",
            )?;
            for (id, touched) in &self.done.touched {
                let account = touched.account;
                update.execute(params![
                    id,
                    signed(account.version),
                    signed(account.entries),
                    signed(account.bytes)
                ])?;
            }
        }
        self.transaction.commit()?;
        Ok(self.done)
    }

    /// Finds or makes a keyspace.
    pub(crate) fn keyspace(&mut self, name: &str) -> rusqlite::Result<(i64, Account)> {
        let found = self
            .transaction
            .prepare_cached("SELECT id FROM keyspaces WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok((id, self.account(id)));
        }
        self.transaction
            .prepare_cached(
                "INSERT INTO keyspaces (name, version, entries, bytes) VALUES (?1, 0, 0, 0)",
            )?
            .execute([name])?;
        Ok((self.transaction.last_insert_rowid(), Account::default()))
    }

    /// Does one commit. The outer error is SQLite's and ends the transaction.
    pub(crate) fn commit(
        &mut self,
        keyspace: &Arc<OpenKeyspace>,
        atomic: &Atomic,
    ) -> rusqlite::Result<Result<Outcome, StateError>> {
        let id = keyspace.id;
        for (index, check) in atomic.checks.iter().enumerate() {
            let found = self
                .find(id, &check.key)?
                .filter(|found| found.live)
                .map(|found| found.version);
            if found != check.version {
                return Ok(Ok(Outcome::Conflict {
                    check: index,
                    found,
                }));
            }
        }
        let mut plans = self.plans(id, &atomic.mutations)?;
        let existed = existed(&atomic.mutations, &plans);
        if let Err(error) = self.fits(id, &keyspace.limits(), &plans) {
            // What expired but is not swept yet still counts; it makes room first.
            if !self.sweep_one(id, SWEEP)? {
                return Ok(Err(error));
            }
            plans = self.plans(id, &atomic.mutations)?;
            if let Err(error) = self.fits(id, &keyspace.limits(), &plans) {
                return Ok(Err(error));
            }
        }
        plans.retain(|plan| plan.found.is_some() || matches!(plan.mutation, Mutation::Put { .. }));
        let mut account = self.account(id);
        if plans.is_empty() {
            return Ok(Ok(Outcome::Committed {
                version: account.version,
                existed,
            }));
        }
        account.version = account.version.saturating_add(1);
        for plan in &plans {
            self.apply(id, &mut account, plan)?;
        }
        self.touch(id).account = account;
        Ok(Ok(Outcome::Committed {
            version: account.version,
            existed,
        }))
    }

    /// What is to be done to each key that changes: the last mutation of it counts.
    fn plans<'a>(&self, id: i64, mutations: &'a [Mutation]) -> rusqlite::Result<Vec<Plan<'a>>> {
        let mut plans: Vec<Plan<'a>> = Vec::with_capacity(mutations.len());
        let mut places: HashMap<&Key, usize> = HashMap::new();
        for mutation in mutations {
            let key = mutation.key();
            match places.entry(key) {
                Slot::Occupied(place) => {
                    if let Some(plan) = plans.get_mut(*place.get()) {
                        plan.mutation = mutation;
                    }
                }
                Slot::Vacant(place) => {
                    place.insert(plans.len());
                    plans.push(Plan {
                        key,
                        mutation,
                        found: self.find(id, key)?,
                    });
                }
            }
        }
        Ok(plans)
    }

    /// Whether the keyspace may grow by these.
    fn fits(&self, id: i64, limits: &Limits, plans: &[Plan<'_>]) -> Result<(), StateError> {
        let mut more = 0_u64;
        let mut less = 0_u64;
        for plan in plans {
            let key = plan.key.as_str().len();
            if let Some(found) = &plan.found {
                less = less.saturating_add(Limits::entry_bytes(key, 0).saturating_add(found.size));
            }
            if let Mutation::Put { value, .. } = plan.mutation {
                more = more.saturating_add(Limits::entry_bytes(key, value.data.len()));
            }
        }
        let used = self.account(id).bytes;
        // What makes a keyspace smaller is allowed also when a lowered limit is exceeded.
        if more <= less || used.saturating_add(more - less) <= limits.storage_bytes {
            return Ok(());
        }
        Err(StateError::QuotaExceeded {
            used,
            needed: more - less,
            limit: limits.storage_bytes,
        })
    }

    fn apply(&mut self, id: i64, account: &mut Account, plan: &Plan<'_>) -> rusqlite::Result<()> {
        let key = plan.key.as_str().as_bytes();
        if let Some(found) = &plan.found {
            account.entries = account.entries.saturating_sub(1);
            account.bytes = account
                .bytes
                .saturating_sub(Limits::entry_bytes(key.len(), 0).saturating_add(found.size));
        }
        let kind = match plan.mutation {
            Mutation::Put { value, ttl, .. } => {
                account.entries += 1;
                account.bytes += Limits::entry_bytes(key.len(), value.data.len());
                let expires = ttl.map(|ttl| self.now_ms.saturating_add(ttl_ms(ttl)));
                if let Some(expires) = expires {
                    let earliest = self.done.expires_ms.map_or(expires, |at| at.min(expires));
                    self.done.expires_ms = Some(earliest);
                }
                let version = signed(account.version);
                let number = kind_number(value.kind);
                let size = signed(value.data.len() as u64);
                match &plan.found {
                    Some(found) => self
                        .transaction
                        .prepare_cached(
                            "UPDATE entries SET version = ?2, expires = ?3, kind = ?4, size = ?5,
                             value = ?6 WHERE id = ?1",
                        )?
                        .execute(params![found.row, version, expires, number, size, value.data])?,
                    None => self
                        .transaction
                        .prepare_cached(
                            "INSERT INTO entries (keyspace, version, expires, kind, size, key, value)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                        )?
                        .execute(params![id, version, expires, number, size, key, value.data])?,
                };
                ChangeKind::Put
            }
            Mutation::Delete { .. } => {
                let Some(found) = &plan.found else {
                    return Ok(());
                };
                self.remove(found.row)?;
                if found.live {
                    ChangeKind::Deleted
                } else {
                    ChangeKind::Expired
                }
            }
        };
        let change = Change {
            key: plan.key.clone(),
            version: account.version,
            kind,
        };
        self.touch(id).changes.push(change);
        Ok(())
    }

    /// Removes expired entries of all keyspaces, the earliest first, and says how many there were.
    pub(crate) fn sweep(&mut self) -> rusqlite::Result<usize> {
        let expired = self.expired(
            "SELECT id, keyspace, key, size FROM entries
             WHERE expires IS NOT NULL AND expires <= ?1 AND ?2 <> 0
             ORDER BY expires LIMIT ?3",
            1,
            SWEEP,
        )?;
        self.remove_expired(expired)
    }

    /// Removes expired entries of one keyspace, and says whether there were any.
    fn sweep_one(&mut self, id: i64, most: usize) -> rusqlite::Result<bool> {
        let expired = self.expired(
            "SELECT id, keyspace, key, size FROM entries
             WHERE expires IS NOT NULL AND expires <= ?1 AND keyspace = ?2 LIMIT ?3",
            id,
            most,
        )?;
        Ok(self.remove_expired(expired)? > 0)
    }

    fn expired(&self, query: &str, id: i64, most: usize) -> rusqlite::Result<Vec<Expired>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.transaction
            .prepare_cached(query)?
            .query_map(params![self.now_ms, id, most], |row| {
                Ok(Expired {
                    row: row.get(0)?,
                    keyspace: row.get(1)?,
                    key: row.get(2)?,
                    size: unsigned(row.get(3)?),
                })
            })?
            .collect()
    }

    fn remove_expired(&mut self, expired: Vec<Expired>) -> rusqlite::Result<usize> {
        let count = expired.len();
        // All that is swept from a keyspace in one go is one commit of it.
        let mut versions: HashMap<i64, Version> = HashMap::new();
        for Expired {
            row,
            keyspace: id,
            key,
            size,
        } in expired
        {
            self.remove(row)?;
            let touched = self.touch(id);
            let version = *versions.entry(id).or_insert_with(|| {
                touched.account.version = touched.account.version.saturating_add(1);
                touched.account.version
            });
            let account = &mut touched.account;
            account.entries = account.entries.saturating_sub(1);
            account.bytes = account
                .bytes
                .saturating_sub(Limits::entry_bytes(key.len(), 0).saturating_add(size));
            if let Ok(key) = Key::new(&String::from_utf8_lossy(&key)) {
                touched.changes.push(Change {
                    key,
                    version,
                    kind: ChangeKind::Expired,
                });
            }
        }
        self.done.swept += count;
        Ok(count)
    }

    fn remove(&self, row: i64) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("DELETE FROM entries WHERE id = ?1")?
            .execute([row])?;
        Ok(())
    }

    fn find(&self, id: i64, key: &Key) -> rusqlite::Result<Option<Found>> {
        self.transaction
            .prepare_cached(
                "SELECT id, version, size, expires FROM entries WHERE keyspace = ?1 AND key = ?2",
            )?
            .query_row(params![id, key.as_str().as_bytes()], |row| {
                Ok(Found {
                    row: row.get(0)?,
                    version: unsigned(row.get(1)?),
                    size: unsigned(row.get(2)?),
                    live: row
                        .get::<_, Option<i64>>(3)?
                        .is_none_or(|at| at > self.now_ms),
                })
            })
            .optional()
    }

    fn account(&self, id: i64) -> Account {
        match self.done.touched.get(&id) {
            Some(touched) => touched.account,
            None => self.accounts.get(&id).copied().unwrap_or_default(),
        }
    }

    fn touch(&mut self, id: i64) -> &mut Touched {
        let account = self.accounts.get(&id).copied().unwrap_or_default();
        self.done.touched.entry(id).or_insert_with(|| Touched {
            account,
            changes: Vec::new(),
        })
    }
}

fn existed(mutations: &[Mutation], plans: &[Plan<'_>]) -> Vec<bool> {
    let live: HashMap<&Key, bool> = plans
        .iter()
        .map(|plan| {
            (
                plan.key,
                plan.found.as_ref().is_some_and(|found| found.live),
            )
        })
        .collect();
    mutations
        .iter()
        .map(|mutation| live.get(mutation.key()).copied().unwrap_or(false))
        .collect()
}

fn ttl_ms(ttl: Duration) -> i64 {
    i64::try_from(ttl.min(MAX_TTL).as_millis())
        .unwrap_or(i64::MAX)
        .max(1)
}
