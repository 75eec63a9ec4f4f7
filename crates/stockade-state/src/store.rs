//! What a backend of state owes its callers.
//!
//! A backend may keep its data in a file of this machine or in a cluster: callers see only these
//! two traits. The invariants at the head of the crate hold for each of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::atomic::{Atomic, Check, Mutation, Outcome};
use crate::error::StateError;
use crate::key::{Key, KeyspaceName};
use crate::limits::Limits;
use crate::list::{List, Page};
use crate::value::{StateEntry, Value, Version};
use crate::watch::{Selector, Watch};

/// A place of keyspaces.
pub trait Store: Send + Sync + 'static {
    /// Opens a keyspace, and makes it if there is none of this name. Opening it again gives the same
    /// keyspace; `limits` then replace the ones before, for all who have it open.
    fn open(
        &self,
        name: KeyspaceName,
        limits: Limits,
    ) -> BoxFuture<'static, Result<Arc<dyn Keyspace>, StateError>>;

    /// Ends the store: what was accepted is done, later operations fail with [`StateError::Closed`].
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Entries under one name, with their own versions, limits and watches.
///
/// A dropped future may leave its commit done or undone, as with any caller that does not wait.
pub trait Keyspace: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &KeyspaceName;

    /// Reads entries as of one instant: one answer for each key, in their order.
    fn read(
        &self,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<StateEntry>>, StateError>>;

    /// Lists keys as of one instant.
    fn list(&self, list: List) -> BoxFuture<'static, Result<Page, StateError>>;

    /// Commits changes if all checks hold.
    fn commit(&self, atomic: Atomic) -> BoxFuture<'static, Result<Outcome, StateError>>;

    /// Watches keys for changes after `from`; `None`: from now on.
    ///
    /// # Errors
    /// [`StateError::TooManyWatches`], [`StateError::Closed`].
    fn watch(
        &self,
        selector: Selector,
        from: Option<Version>,
    ) -> Result<Box<dyn Watch>, StateError>;

    /// What it uses now.
    fn usage(&self) -> Usage;
}

/// What a keyspace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Entries, with those that are expired and not swept yet.
    pub entries: u64,
    /// Bytes of keys, values and overhead of those.
    pub bytes: u64,
    /// The limit of `bytes`.
    pub limit_bytes: u64,
    /// The version of the last commit.
    pub version: Version,
    /// Watches that are open.
    pub watches: u64,
}

impl dyn Keyspace {
    /// Reads one entry.
    ///
    /// # Errors
    /// When the store fails or too much waits.
    pub async fn get(&self, key: Key) -> Result<Option<StateEntry>, StateError> {
        Ok(self.read(vec![key]).await?.pop().flatten())
    }

    /// Writes one entry, whatever is there.
    ///
    /// # Errors
    /// When a limit is reached or the store fails; nothing was written then.
    pub async fn put(
        &self,
        key: Key,
        value: Value,
        ttl: Option<Duration>,
    ) -> Result<Version, StateError> {
        let atomic = Atomic {
            checks: Vec::new(),
            mutations: vec![Mutation::Put { key, value, ttl }],
        };
        match self.commit(atomic).await? {
            Outcome::Committed { version, .. } => Ok(version),
            // A commit without checks has none that can fail.
            Outcome::Conflict { .. } => Err(StateError::Closed),
        }
    }

    /// Writes one entry if it has this version (`None`: if there is none). Gives its new version, or
    /// `None` if it had another one.
    ///
    /// # Errors
    /// As [`put`](#method.put).
    pub async fn compare_and_put(
        &self,
        key: Key,
        version: Option<Version>,
        value: Value,
        ttl: Option<Duration>,
    ) -> Result<Option<Version>, StateError> {
        let atomic = Atomic {
            checks: vec![Check {
                key: key.clone(),
                version,
            }],
            mutations: vec![Mutation::Put { key, value, ttl }],
        };
        match self.commit(atomic).await? {
            Outcome::Committed { version, .. } => Ok(Some(version)),
            Outcome::Conflict { .. } => Ok(None),
        }
    }

    /// Removes one entry and says whether there was one.
    ///
    /// # Errors
    /// When the store fails or too much waits; nothing was removed then.
    pub async fn delete(&self, key: Key) -> Result<bool, StateError> {
        let atomic = Atomic {
            checks: Vec::new(),
            mutations: vec![Mutation::Delete { key }],
        };
        match self.commit(atomic).await? {
            Outcome::Committed { existed, .. } => Ok(existed.first().copied().unwrap_or(false)),
            Outcome::Conflict { .. } => Ok(false),
        }
    }
}
