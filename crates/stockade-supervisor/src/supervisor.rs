//! Creates isolates and keeps the list of those that live.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use stockade_policy::{IsolateOptions, Isolation, OptionsError, SandboxOptions};
use tokio::sync::oneshot;

use crate::end::DestroyReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::meter::Meter;
use crate::seat::Seat;
use crate::shared::Shared;
use crate::wall::{StartError, Wall};

/// Why an isolate was not created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The sandbox was shut down.
    #[error("the sandbox is shut down")]
    ShutDown,
    /// This program has no such wall.
    #[error(
        "isolation '{}' is not available in this build of Stockade\n  fix: choose 'thread', or on Linux 'process' or 'container'",
        .0.name()
    )]
    NoWall(Isolation),
    /// The options do not go together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The isolate could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host ended the isolate before it was ready.
    #[error("the isolate ended before it was ready")]
    Ended,
}

/// An isolate that nobody has a handle of yet: it ends where its start fails or is not waited for.
struct Unstarted(Option<Arc<Shared>>);

impl Unstarted {
    fn started(mut self) -> Option<Handle> {
        self.0.take().map(Handle::new)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.destroy(DestroyReason::Requested);
        }
    }
}

/// The isolates of one sandbox.
pub(crate) struct Pool {
    pub(crate) threads: usize,
    pub(crate) abandoned: AtomicUsize,
    live: Mutex<Option<HashMap<u32, Arc<Shared>>>>,
}

impl Pool {
    /// For an isolate that no supervisor of this process has a list of.
    pub(crate) fn detached() -> Self {
        Self {
            threads: usize::MAX,
            abandoned: AtomicUsize::new(0),
            live: Mutex::new(None),
        }
    }

    pub(crate) fn remove(&self, id: u32) {
        let removed = self.live.lock().as_mut().and_then(|live| live.remove(&id));
        drop(removed);
    }
}

/// Creates isolates, holds them to their limits, and ends them. Cheap to clone.
///
/// Dropping the last clone ends nothing: call [`Supervisor::shutdown`].
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    options: SandboxOptions,
    walls: HashMap<Isolation, Arc<dyn Wall>>,
    pool: Arc<Pool>,
    next_id: AtomicU32,
    /// The defaults, shared so that ready isolates can be told to fit by their address.
    warm: Arc<IsolateOptions>,
}

impl Supervisor {
    /// A supervisor with these walls.
    #[must_use]
    pub fn new(
        options: SandboxOptions,
        walls: impl IntoIterator<Item = (Isolation, Arc<dyn Wall>)>,
    ) -> Self {
        let pool = Arc::new(Pool {
            threads: options.threads.max(1),
            abandoned: AtomicUsize::new(0),
            live: Mutex::new(Some(HashMap::new())),
        });
        let warm = Arc::new(options.defaults.clone());
        let walls: HashMap<_, Arc<dyn Wall>> = walls.into_iter().collect();
        if warm.isolation != Isolation::Thread
            && let Some(wall) = walls.get(&warm.isolation)
        {
            // Processes take their time.
            wall.warm_up(&warm, options.warm);
        }
        Self {
            inner: Arc::new(Inner {
                options,
                walls,
                pool,
                next_id: AtomicU32::new(0),
                warm,
            }),
        }
    }

    /// What the sandbox was made with.
    #[must_use]
    pub fn options(&self) -> &SandboxOptions {
        &self.inner.options
    }

    /// Starts an isolate whose events come to `hub` once [`Handle::listen`] was called.
    ///
    /// # Errors
    /// When the wall cannot be built, the isolate cannot be started, or the sandbox is shut down.
    pub async fn create(
        &self,
        options: impl Into<Arc<IsolateOptions>>,
        hub: &Arc<Hub>,
    ) -> Result<Handle, CreateError> {
        let inner = &self.inner;
        let options = options.into();
        options.check()?;
        let wall = inner
            .walls
            .get(&options.isolation)
            .ok_or(CreateError::NoWall(options.isolation))?;
        if self.is_shut_down() {
            return Err(CreateError::ShutDown);
        }
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let pool = Arc::clone(&inner.pool);
        let shared = Arc::new(Shared::new(id, options, pool, Arc::clone(hub), None));
        let (sender, started) = oneshot::channel();
        *shared.started.lock() = Some(sender);
        let seat = Seat {
            shared: Arc::clone(&shared),
        };
        if let Some(live) = inner.pool.live.lock().as_mut() {
            live.insert(id, Arc::clone(&shared));
        } else {
            // Shut down meanwhile.
            shared.destroy(DestroyReason::Shutdown);
            return Err(CreateError::ShutDown);
        }
        let unstarted = Unstarted(Some(shared));
        if let Some(shared) = &unstarted.0 {
            Meter::watch(shared)?;
        }
        wall.start(seat)?;
        wall.warm_up(&inner.warm, inner.options.warm);
        started.await.map_err(|_| CreateError::Ended)??;
        unstarted.started().ok_or(CreateError::Ended)
    }

    /// How many isolates may compute at length at the same time.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.pool.threads
    }

    /// How many isolates live.
    #[must_use]
    pub fn isolates(&self) -> usize {
        self.inner.pool.live.lock().as_ref().map_or(0, HashMap::len)
    }

    /// How many ended isolates have a thread that does not stop: it is inside a built-in function
    /// that the engine cannot interrupt, and holds its memory and a core until that returns.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.inner.pool.abandoned.load(Ordering::SeqCst)
    }

    /// Ends every isolate and creates no more. Doing so twice is fine.
    pub fn shutdown(&self) {
        let live = self.inner.pool.live.lock().take();
        for shared in live.into_iter().flat_map(HashMap::into_values) {
            shared.destroy(DestroyReason::Shutdown);
        }
    }

    /// Whether [`Supervisor::shutdown`] was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.inner.pool.live.lock().is_none()
    }
}
