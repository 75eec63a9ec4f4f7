//! A keyspace as its callers have it.

use std::num::NonZeroU64;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_limits::IoRates;
use tokio::sync::oneshot;

use super::queue::{FairQueue, LaneLimits, Refused, Weight};
use super::reader::{READ_BYTES, Read, ReadWork};
use super::shared::OpenKeyspace;
use super::writer::{CommitWork, Work};
use crate::atomic::{Atomic, Outcome};
use crate::error::{MAX_READ_KEYS, StateError};
use crate::key::{Key, KeyspaceName, MAX_KEY_BYTES};
use crate::list::{List, Page};
use crate::store::{Keyspace, Usage};
use crate::value::{StateEntry, Version};
use crate::watch::{Selector, Watch};

/// A keyspace of an [`SqliteStore`](super::SqliteStore).
#[derive(Clone)]
pub(crate) struct SqliteKeyspace {
    pub(crate) shared: Arc<OpenKeyspace>,
    pub(crate) writes: Arc<FairQueue<Work>>,
    pub(crate) reads: Arc<FairQueue<ReadWork>>,
}

fn refused(refused: Refused) -> StateError {
    match refused {
        Refused::Full { pending } => StateError::Busy { pending },
        Refused::Closed => StateError::Closed,
    }
}

impl SqliteKeyspace {
    fn push_read<T>(
        &self,
        weight: Weight,
        read: impl FnOnce(oneshot::Sender<Result<T, StateError>>) -> Read,
    ) -> Result<oneshot::Receiver<Result<T, StateError>>, StateError> {
        let limits = LaneLimits {
            jobs: self.shared.limits().pending,
            bytes: usize::MAX,
            rates: IoRates::default(),
        };
        let (reply, answer) = oneshot::channel();
        let work = ReadWork {
            keyspace: Arc::clone(&self.shared),
            read: read(reply),
        };
        self.reads
            .push(self.shared.id, limits, weight, work)
            .map_err(refused)?;
        Ok(answer)
    }

    fn push_commit(
        &self,
        atomic: Atomic,
    ) -> Result<oneshot::Receiver<Result<Outcome, StateError>>, StateError> {
        let limits = self.shared.limits();
        let bytes = atomic.check(&limits)?;
        let keys: usize = atomic
            .checks
            .iter()
            .map(|check| check.key.as_str().len())
            .sum();
        let weight = Weight {
            operations: u32::try_from(atomic.mutations.len())
                .unwrap_or(u32::MAX)
                .max(1),
            bytes: bytes.saturating_add(keys),
        };
        // A rate of zero would never let a write through.
        let positive = |rate| NonZeroU64::new(rate).unwrap_or(NonZeroU64::MIN);
        let lane = LaneLimits {
            jobs: limits.pending,
            bytes: limits.pending_bytes,
            rates: IoRates {
                operations: Some(positive(limits.writes_per_second.into())),
                bytes: Some(positive(limits.write_bytes_per_second)),
            },
        };
        let (reply, answer) = oneshot::channel();
        let work = Work::Commit(CommitWork {
            keyspace: Arc::clone(&self.shared),
            atomic,
            reply,
        });
        self.writes
            .push(self.shared.id, lane, weight, work)
            .map_err(refused)?;
        Ok(answer)
    }
}

/// Bytes of the values that a read of `keys` entries gives, at most.
fn most_read(keys: usize, value_bytes: usize) -> usize {
    match keys {
        0 | 1 => value_bytes,
        _ => keys.saturating_mul(value_bytes).min(READ_BYTES),
    }
}

/// The answer, once a thread gives one. A thread that ends without an answer has closed the store.
async fn answer<T>(
    asked: Result<oneshot::Receiver<Result<T, StateError>>, StateError>,
) -> Result<T, StateError> {
    asked?.await.unwrap_or(Err(StateError::Closed))
}

impl Keyspace for SqliteKeyspace {
    fn name(&self) -> &KeyspaceName {
        &self.shared.name
    }

    fn read(
        &self,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<StateEntry>>, StateError>> {
        let keyspace = self.clone();
        Box::pin(async move {
            if keys.len() > MAX_READ_KEYS {
                return Err(StateError::TooManyKeys { keys: keys.len() });
            }
            let bytes = most_read(keys.len(), keyspace.shared.limits().value_bytes);
            let _room = keyspace.shared.room(bytes).await?;
            let weight = Weight {
                operations: u32::try_from(keys.len()).unwrap_or(u32::MAX),
                bytes: 0,
            };
            answer(keyspace.push_read(weight, |reply| Read::Entries { keys, reply })).await
        })
    }

    fn list(&self, list: List) -> BoxFuture<'static, Result<Page, StateError>> {
        let keyspace = self.clone();
        Box::pin(async move {
            let range = list.range().map_err(StateError::from)?;
            let bytes = list.limit.saturating_add(1).saturating_mul(MAX_KEY_BYTES);
            let _room = keyspace.shared.room(bytes).await?;
            let weight = Weight {
                operations: 1,
                bytes: list.limit.saturating_mul(128),
            };
            let asked = keyspace.push_read(weight, |reply| Read::List {
                range,
                limit: list.limit,
                reverse: list.reverse,
                reply,
            });
            answer(asked).await
        })
    }

    fn commit(&self, atomic: Atomic) -> BoxFuture<'static, Result<Outcome, StateError>> {
        Box::pin(answer(self.push_commit(atomic)))
    }

    fn watch(
        &self,
        selector: Selector,
        from: Option<Version>,
    ) -> Result<Box<dyn Watch>, StateError> {
        let most = self.shared.limits().watches;
        Ok(Box::new(self.shared.feed.watch(selector, from, most)?))
    }

    fn usage(&self) -> Usage {
        let sums = self.shared.sums();
        Usage {
            entries: sums.entries,
            bytes: sums.bytes,
            limit_bytes: self.shared.limits().storage_bytes,
            version: sums.version,
            watches: self.shared.feed.watches(),
        }
    }
}
