//! A set of isolates with common defaults.

use std::sync::Arc;

use stockade_grants::GrantedUse;
use stockade_inspector::Inspector;
use stockade_isolate::ThreadBackend;
#[cfg(target_os = "linux")]
use stockade_jail::Level;
use stockade_limits::{IsolateOptions, Isolation, SandboxOptions};
#[cfg(target_os = "linux")]
use stockade_supervisor::{CreateError, EventQueue, IsolationBackend, Supervisor};
#[cfg(target_os = "linux")]
use stockade_supervisor::{JailLauncher, WorkerBackend, WorkerLauncher as _};

use crate::granted::{Granted, GrantedError, Grants, Opener};
use crate::isolate::Isolate;

/// Creates isolates and enforces their limits. Cheap to clone, usable from any thread.
///
/// Dropping it ends nothing; call [`Sandbox::shutdown`].
#[derive(Clone)]
pub struct Sandbox {
    supervisor: Supervisor,
    opener: Arc<Opener>,
}

impl Sandbox {
    /// A sandbox with these options. [`initialize`](crate::initialize) must have been called.
    #[must_use]
    pub fn new(options: SandboxOptions) -> Self {
        Self {
            supervisor: Supervisor::new(options, backends()),
            opener: Arc::default(),
        }
    }

    /// Starts an isolate and waits until it is ready.
    ///
    /// # Errors
    /// When the isolation level is not available here, the isolate cannot be started, or the sandbox is
    /// shut down.
    pub async fn create(&self, options: IsolateOptions) -> Result<Isolate, CreateError> {
        let queue = EventQueue::new();
        let handle = self.supervisor.create(options, &queue).await?;
        Ok(Isolate::new(handle, queue, None))
    }

    /// Starts an isolate that is granted something, and waits until it is ready. What it holds open is closed when
    /// the isolate has ended, or is dropped.
    ///
    /// # Errors
    /// As [`Sandbox::create`]; also when a grant cannot be opened, or its name is in `env` already.
    pub async fn create_granted(
        &self,
        mut options: IsolateOptions,
        grants: &Grants,
    ) -> Result<Isolate, GrantedError> {
        if grants.is_empty() {
            return Ok(self.create(options).await?);
        }
        Opener::name(grants, &mut options)?;
        let queue = EventQueue::new();
        let handle = self.supervisor.create(options, &queue).await?;
        let opened = self.opener.open(&self.supervisor, &handle, grants);
        let guest = opened.inspect_err(|_| handle.destroy())?;
        let granted = Granted {
            guest,
            opener: Arc::clone(&self.opener),
            isolate: handle.id(),
        };
        Ok(Isolate::new(handle, queue, Some(granted)))
    }

    /// What isolates have used of their grants and of the network. What is not over does not count yet.
    #[must_use]
    pub fn granted_use(&self) -> GrantedUse {
        self.opener.used()
    }

    /// The options that isolates have by default.
    #[must_use]
    pub fn defaults(&self) -> &IsolateOptions {
        &self.supervisor.options().defaults
    }

    /// Starts an isolate with the sandbox's defaults.
    ///
    /// # Errors
    /// As [`Sandbox::create`].
    pub async fn create_default(&self) -> Result<Isolate, CreateError> {
        self.create(self.supervisor.options().defaults.clone())
            .await
    }

    /// How many isolates live.
    #[must_use]
    pub fn isolates(&self) -> usize {
        self.supervisor.isolates()
    }

    /// How many ended isolates have a thread that does not stop: it is inside a built-in function that
    /// V8 cannot interrupt, and holds its memory and a core until that returns. Only a process boundary
    /// ends such a thread.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.supervisor.abandoned()
    }

    /// Ends every isolate and creates no more.
    pub fn shutdown(&self) {
        self.supervisor.shutdown();
    }
}

/// Every way this program has of running an isolate. Nothing is started before the first isolate.
pub fn backends() -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    with_workers(ThreadBackend::new())
}

/// As [`backends`]; debuggers may connect to every isolate of level `thread`.
pub fn backends_with_inspector(
    inspector: Inspector,
) -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    with_workers(ThreadBackend::with_inspector(inspector))
}

/// The backends that run no guest in this process: those of the levels `process` and
/// `container`. V8 need not be set up for them.
pub fn worker_backends() -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    #[cfg(target_os = "linux")]
    return jail_backends(WorkerBackend::new);
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// As [`worker_backends`], for a host whose own tasks run in `runtime` and never compute for long: messages
/// are carried there, and no thread has to be woken for one.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "there are no workers on this system")
)]
pub fn worker_backends_driven_by(
    runtime: &tokio::runtime::Handle,
) -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    #[cfg(target_os = "linux")]
    return jail_backends(|launcher| WorkerBackend::driven_by(launcher, runtime.clone()));
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// A backend for each level of the jail.
#[cfg(target_os = "linux")]
fn jail_backends(
    backend: impl Fn(JailLauncher) -> WorkerBackend<JailLauncher>,
) -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    [Level::Process, Level::Container]
        .map(|level| {
            let launcher = JailLauncher::new(level);
            let isolation = launcher.isolation();
            let backend: Arc<dyn IsolationBackend> = Arc::new(backend(launcher));
            (isolation, backend)
        })
        .into()
}

fn with_workers(thread: ThreadBackend) -> Vec<(Isolation, Arc<dyn IsolationBackend>)> {
    let mut backends: Vec<(Isolation, Arc<dyn IsolationBackend>)> =
        vec![(Isolation::Thread, Arc::new(thread))];
    backends.extend(worker_backends());
    backends
}
