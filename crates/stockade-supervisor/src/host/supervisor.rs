//! Creates isolates and keeps the list of those that live.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use stockade_limits::{IsolateOptions, Isolation, OptionsError, SandboxOptions};

use super::event_queue::EventQueue;
use super::handle::IsolateHandle;
use super::registry::Registry;
use super::side::{HostIsolate, HostSide};
use crate::backend::{IsolationBackend, NewIsolate};
use crate::end::DestroyReason;
use crate::limits::cpu_slots::CpuSlots;
use crate::limits::watchdog::Watchdog;
use crate::start_error::StartError;

/// Why an isolate was not created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The sandbox was shut down.
    #[error("the sandbox is shut down")]
    ShutDown,
    /// This program has no such backend.
    #[error(
        "isolation '{}' is not available in this build of Stockade\n  fix: choose 'thread', or on Linux 'process' or 'container'",
        .0.name()
    )]
    NoBackend(Isolation),
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
struct Unstarted(Option<Arc<HostIsolate>>);

impl Unstarted {
    fn started(mut self) -> Option<IsolateHandle> {
        self.0.take().map(IsolateHandle::new)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(isolate) = self.0.take() {
            isolate.destroy(DestroyReason::Requested);
        }
    }
}

/// Creates isolates, enforces their limits, and ends them. Cheap to clone.
///
/// Dropping the last clone ends nothing: call [`Supervisor::shutdown`].
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    options: SandboxOptions,
    backends: HashMap<Isolation, Arc<dyn IsolationBackend>>,
    registry: Arc<Registry<Arc<HostIsolate>>>,
    slots: Arc<CpuSlots>,
    next_id: AtomicU32,
    /// The defaults, shared so that ready isolates are recognised as fitting by their address.
    warm: Arc<IsolateOptions>,
}

impl Supervisor {
    /// A supervisor with these backends.
    #[must_use]
    pub fn new(
        options: SandboxOptions,
        backends: impl IntoIterator<Item = (Isolation, Arc<dyn IsolationBackend>)>,
    ) -> Self {
        let slots = Arc::new(CpuSlots {
            count: options.threads.max(1),
        });
        let warm = Arc::new(options.defaults.clone());
        let backends: HashMap<_, Arc<dyn IsolationBackend>> = backends.into_iter().collect();
        if warm.isolation != Isolation::Thread
            && let Some(backend) = backends.get(&warm.isolation)
        {
            // Processes take their time.
            backend.warm_up(&warm, options.warm);
        }
        Self {
            inner: Arc::new(Inner {
                options,
                backends,
                registry: Arc::new(Registry::new()),
                slots,
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

    /// Starts an isolate whose events come to `queue` once [`IsolateHandle::listen`] was called.
    ///
    /// # Errors
    /// When the isolation cannot be set up, the isolate cannot be started, or the sandbox is shut down.
    pub async fn create(
        &self,
        options: impl Into<Arc<IsolateOptions>>,
        queue: &EventQueue,
    ) -> Result<IsolateHandle, CreateError> {
        let inner = &self.inner;
        let options = options.into();
        options.check()?;
        let backend = inner
            .backends
            .get(&options.isolation)
            .ok_or(CreateError::NoBackend(options.isolation))?;
        if self.is_shut_down() {
            return Err(CreateError::ShutDown);
        }
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let registry = Arc::clone(&inner.registry);
        let isolate = HostSide::isolate(id, options, registry, Arc::clone(&queue.isolates));
        let started = isolate.uplink.expect_start();
        let new = NewIsolate::new(Arc::clone(&isolate));
        if !inner.registry.insert(id, Arc::clone(&isolate)) {
            // Shut down meanwhile.
            isolate.destroy(DestroyReason::Shutdown);
            return Err(CreateError::ShutDown);
        }
        let watched: Weak<HostIsolate> = Arc::downgrade(&isolate);
        let unstarted = Unstarted(Some(isolate));
        Watchdog::watch(watched, Some(Arc::clone(&inner.slots)))?;
        backend.start(new)?;
        backend.warm_up(&inner.warm, inner.options.warm);
        started.await.map_err(|_| CreateError::Ended)??;
        unstarted.started().ok_or(CreateError::Ended)
    }

    /// How many isolates may compute at length at the same time.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.slots.count
    }

    /// How many isolates live.
    #[must_use]
    pub fn isolates(&self) -> usize {
        self.inner.registry.count()
    }

    /// How many ended isolates have a thread that does not stop: it is inside a built-in function
    /// that the engine cannot interrupt, and holds its memory and a core until that returns.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.inner.registry.abandoned()
    }

    /// Ends every isolate and creates no more. Doing so twice is fine.
    pub fn shutdown(&self) {
        for isolate in self.inner.registry.close() {
            isolate.destroy(DestroyReason::Shutdown);
        }
    }

    /// Whether [`Supervisor::shutdown`] was called.
    #[must_use]
    fn is_shut_down(&self) -> bool {
        self.inner.registry.is_closed()
    }
}
