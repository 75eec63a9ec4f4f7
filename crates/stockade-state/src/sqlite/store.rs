//! The store: its threads, and how it is opened and closed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use stockade_limits::IoRates;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::connection;
use super::fault::Health;
use super::keyspace::SqliteKeyspace;
use super::open::{self, OpenError};
use super::queue::{FairQueue, LaneLimits, Refused, Weight};
use super::reader::{ReadWork, Reader};
use super::shared::Counters;
use super::tidy::{SWEEP_EVERY, Tidy};
use super::writer::{OpenWork, Opened, Work, Writer};
use crate::error::StateError;
use crate::key::KeyspaceName;
use crate::limits::Limits;
use crate::store::{Keyspace, Store};

/// The lane of work that belongs to no keyspace; their own begin at 1.
const NO_KEYSPACE: i64 = 0;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file. SQLite keeps `-wal` and `-shm` next to it, and a `.lock` is there.
    pub path: PathBuf,
    /// Threads that read, 1 to 16.
    pub readers: usize,
    /// Largest file, in bytes, that is read completely at the start to check that it is intact.
    pub check_bytes: u64,
    pub(crate) clock: Clock,
    pub(crate) sweep_every: Duration,
}

impl SqliteOptions {
    /// The defaults: two readers, files of up to 256 MiB checked at the start.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 2,
            check_bytes: 256 << 20,
            clock: Clock::machine(),
            sweep_every: SWEEP_EVERY,
        }
    }
}

/// What a store did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Commits that were answered, also those whose checks did not hold.
    pub commits: u64,
    /// Transactions that they shared.
    pub groups: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Expired entries that were removed.
    pub swept: u64,
    /// Commits that wait now.
    pub pending_writes: u64,
    /// Reads that wait now.
    pub pending_reads: u64,
    /// Keyspaces that are open.
    pub keyspaces: u64,
    /// Bytes of the file and its log.
    pub file_bytes: u64,
    /// Whether it can be written: not since a write failed, as on a full disk, until one succeeds.
    pub writable: bool,
}

struct Inner {
    path: PathBuf,
    writes: Arc<FairQueue<Work>>,
    reads: Arc<FairQueue<ReadWork>>,
    opened: Opened,
    health: Arc<Health>,
    counters: Arc<Counters>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// State in an SQLite file. Cheap to clone; the last one that is dropped lets the threads end.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens or makes the file, and starts the threads. Blocks: up to five seconds for the lock of a
    /// process that is just ending, and for as long as reading the file takes.
    ///
    /// # Errors
    /// When another process has the file, when it is damaged, of another program or a later version,
    /// or when it cannot be written.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let opened = open::open(&options.path, options.check_bytes)?;
        let path = opened.path;
        let lock = Arc::new(opened.lock);
        let inner = Arc::new(Inner {
            path: path.clone(),
            writes: Arc::new(FairQueue::new()),
            reads: Arc::new(FairQueue::new()),
            opened: Arc::new(Mutex::new(HashMap::new())),
            health: Arc::default(),
            counters: Arc::default(),
            threads: Mutex::default(),
        });
        let store = Self {
            inner: Arc::clone(&inner),
        };
        for number in 0..options.readers.clamp(1, 16) {
            let reader = Reader {
                connection: connection::reader(&path)
                    .map_err(|error| open::open_error(&path, &error))?,
                path: path.clone(),
                queue: Arc::clone(&inner.reads),
                clock: options.clock.clone(),
            };
            let ending = Ending(Arc::clone(&inner.reads));
            let lock = Arc::clone(&lock);
            store.start(&format!("state-read-{number}"), move || {
                reader.run();
                drop((ending, lock));
            })?;
        }
        let writer = Writer {
            connection: opened.connection,
            path,
            queue: Arc::clone(&inner.writes),
            accounts: opened.accounts,
            opened: Arc::clone(&inner.opened),
            health: Arc::clone(&inner.health),
            clock: options.clock,
            counters: Arc::clone(&inner.counters),
            tidy: Tidy::new(
                opened.frames,
                options.sweep_every,
                opened.earliest_expiry_ms,
            ),
        };
        let ending = Ending(Arc::clone(&inner.writes));
        store.start("state-write", move || {
            writer.run();
            drop((ending, lock));
        })?;
        Ok(store)
    }

    fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(OpenError::Thread)?;
        self.inner.threads.lock().push(thread);
        Ok(())
    }

    /// What it did.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = &self.inner;
        let size = |suffix: &str| {
            std::fs::metadata(open::sibling(&inner.path, suffix)).map_or(0, |meta| meta.len())
        };
        StoreStats {
            commits: inner.counters.commits.load(Ordering::Relaxed),
            groups: inner.counters.groups.load(Ordering::Relaxed),
            failures: inner.counters.failures.load(Ordering::Relaxed),
            swept: inner.counters.swept.load(Ordering::Relaxed),
            pending_writes: inner.writes.pending() as u64,
            pending_reads: inner.reads.pending() as u64,
            keyspaces: inner.opened.lock().len() as u64,
            file_bytes: size("").saturating_add(size("-wal")),
            writable: inner.health.is_writable(),
        }
    }
}

impl Store for SqliteStore {
    fn open(
        &self,
        name: KeyspaceName,
        limits: Limits,
    ) -> BoxFuture<'static, Result<Arc<dyn Keyspace>, StateError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let wide = LaneLimits {
                jobs: usize::MAX,
                bytes: usize::MAX,
                rates: IoRates::default(),
            };
            let work = Work::Open(OpenWork {
                name,
                limits,
                reply,
            });
            inner
                .writes
                .push(NO_KEYSPACE, wide, Weight::default(), work)
                .map_err(|refused| match refused {
                    Refused::Full { pending } => StateError::Busy { pending },
                    Refused::Closed => StateError::Closed,
                })?;
            let shared = answer.await.unwrap_or(Err(StateError::Closed))?;
            let keyspace: Arc<dyn Keyspace> = Arc::new(SqliteKeyspace {
                shared,
                writes: Arc::clone(&inner.writes),
                reads: Arc::clone(&inner.reads),
            });
            Ok(keyspace)
        })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.close();
            let threads = std::mem::take(&mut *inner.threads.lock());
            let joined = tokio::task::spawn_blocking(move || {
                let ended: Vec<io::Result<()>> = threads
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| io::Error::other("it panicked")))
                    .collect();
                ended.into_iter().collect::<io::Result<()>>()
            });
            if let Ok(Err(error)) = joined.await {
                tracing::error!(%error, "state: a thread did not end well");
            }
        })
    }
}

impl Inner {
    fn close(&self) {
        self.writes.close();
        self.reads.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ends the queue of a thread that ends, however it ends: nobody waits for an answer in vain.
struct Ending<J>(Arc<FairQueue<J>>);

impl<J> Drop for Ending<J> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
