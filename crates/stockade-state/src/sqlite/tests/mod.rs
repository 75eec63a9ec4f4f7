//! The store in a folder of its own, with a clock that only the tests move.

mod expiry;
mod model;
mod opening;
mod operations;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::clock::Clock;
use crate::{
    Atomic, Check, Key, Keyspace, KeyspaceName, Limits, Mutation, Outcome, SqliteOptions,
    SqliteStore, StateEntry, StateError, Store, Value, Version,
};

/// Some day in 2023.
const START_MS: i64 = 1_700_000_000_000;

struct Bench {
    folder: TempDir,
    clock: Clock,
    store: SqliteStore,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::standing(START_MS);
        let store = SqliteStore::open(options(&folder, &clock)).unwrap();
        Self {
            folder,
            clock,
            store,
        }
    }

    async fn keyspace(&self, name: &str) -> Arc<dyn Keyspace> {
        self.limited(name, Limits::default()).await
    }

    async fn limited(&self, name: &str, limits: Limits) -> Arc<dyn Keyspace> {
        let name = KeyspaceName::new(name).unwrap();
        self.store.open(name, limits).await.unwrap()
    }

    /// Closes the store and opens it again.
    async fn again(self) -> Self {
        self.store.close().await;
        let store = SqliteStore::open(options(&self.folder, &self.clock)).unwrap();
        Self { store, ..self }
    }
}

fn options(folder: &TempDir, clock: &Clock) -> SqliteOptions {
    SqliteOptions {
        clock: clock.clone(),
        sweep_every: Duration::ZERO,
        ..SqliteOptions::new(folder.path().join("state.db"))
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(name: &str, text: &str) -> Mutation {
    Mutation::Put {
        key: key(name),
        value: Value::text(text),
        ttl: None,
    }
}

fn delete(name: &str) -> Mutation {
    Mutation::Delete { key: key(name) }
}

fn text(entry: &Option<StateEntry>) -> &str {
    std::str::from_utf8(&entry.as_ref().unwrap().value.data).unwrap()
}

async fn write(keyspace: &Arc<dyn Keyspace>, name: &str, text: &str) -> Version {
    keyspace
        .put(key(name), Value::text(text), None)
        .await
        .unwrap()
}

async fn commit(
    keyspace: &Arc<dyn Keyspace>,
    checks: &[(&str, Option<Version>)],
    mutations: Vec<Mutation>,
) -> Result<Outcome, StateError> {
    let checks = checks
        .iter()
        .map(|(name, version)| Check {
            key: key(name),
            version: *version,
        })
        .collect();
    keyspace.commit(Atomic { checks, mutations }).await
}
