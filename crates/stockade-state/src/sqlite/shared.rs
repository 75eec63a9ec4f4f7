//! What callers, writer and readers share: an open keyspace, its sums, and what was done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::feed::Feed;
use crate::error::StateError;
use crate::key::KeyspaceName;
use crate::limits::Limits;
use crate::value::Version;

/// The sums over a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub(crate) version: Version,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// The accounts of all keyspaces, as committed.
pub(crate) type Accounts = HashMap<i64, Account>;

/// Bytes that the answers to reads of one keyspace may have together, until their callers have taken them. Further reads wait.
const ANSWER_BYTES: u32 = 64 << 20;

/// What the threads and the callers share of one keyspace.
#[derive(Debug)]
pub(crate) struct OpenKeyspace {
    pub(crate) id: i64,
    pub(crate) name: KeyspaceName,
    pub(crate) feed: Arc<Feed>,
    limits: Mutex<Limits>,
    entries: AtomicU64,
    bytes: AtomicU64,
    version: AtomicU64,
    /// Room for answers, in bytes.
    answers: Arc<Semaphore>,
    /// Reads that wait for such room.
    waiting: AtomicUsize,
}

impl OpenKeyspace {
    pub(crate) fn new(id: i64, name: KeyspaceName, limits: Limits, account: Account) -> Self {
        let shared = Self {
            id,
            name,
            feed: Arc::new(Feed::new(account.version)),
            limits: Mutex::new(limits),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            version: AtomicU64::new(0),
            answers: Arc::new(Semaphore::new(ANSWER_BYTES as usize)),
            waiting: AtomicUsize::new(0),
        };
        shared.account(account);
        shared
    }

    pub(crate) fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.limits.lock() = limits;
    }

    /// Room for an answer of up to `bytes`, until the result is dropped. Waits while other answers have it.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StateError> {
        let bytes = u32::try_from(bytes).map_or(ANSWER_BYTES, |bytes| bytes.min(ANSWER_BYTES));
        let answers = Arc::clone(&self.answers);
        if let Ok(room) = Arc::clone(&answers).try_acquire_many_owned(bytes) {
            return Ok(room);
        }
        let waiting = Waiting::begin(&self.waiting);
        let pending = waiting.before;
        if pending >= self.limits().pending {
            return Err(StateError::Busy { pending });
        }
        let room = answers.acquire_many_owned(bytes).await;
        room.map_err(|_| StateError::Closed)
    }

    /// Notes what is committed.
    pub(crate) fn account(&self, account: Account) {
        self.entries.store(account.entries, Ordering::Relaxed);
        self.bytes.store(account.bytes, Ordering::Relaxed);
        self.version.store(account.version, Ordering::Relaxed);
    }

    /// The sums as last committed.
    pub(crate) fn sums(&self) -> Account {
        Account {
            version: self.version.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Counts one more until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let before = count.fetch_add(1, Ordering::Relaxed);
        Self { count, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the store did since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) swept: AtomicU64,
}
