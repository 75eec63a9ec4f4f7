//! A backend whose isolates run in workers: the workers kept ready, and the trust groups.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_limits::IsolateOptions;
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;

use super::connection::Connection;
use super::driver::Driver;
use super::event_loop::event_loop;
use super::process::WorkerLauncher;
use crate::backend::{IsolationBackend, NewIsolate};
use crate::host::remote::RemoteGuest;
use crate::start_error::StartError;

/// Isolates of one trust group that share a worker at most.
const GROUP_SIZE: usize = 8;

/// The pool is refilled when no isolate was started for this time: those that are started go first.
const REFILL_AFTER: Duration = Duration::from_millis(5);

/// After this time the pool is refilled however many isolates are started.
const REFILL_AT_LATEST: Duration = Duration::from_millis(100);

/// Runs each isolate, or each trust group, in a worker of its own.
pub struct WorkerBackend<L: WorkerLauncher> {
    workers: Arc<Workers<L>>,
}

struct Workers<L: WorkerLauncher> {
    launcher: L,
    /// Where connections are driven; `None` is the [event loop](super::event_loop) of all of them.
    runtime: Option<Handle>,
    pool: Mutex<Pool<L::Spec>>,
}

struct Pool<S> {
    ready: Vec<(S, Arc<Connection>)>,
    /// Workers that are being started for the pool.
    coming: usize,
    /// When the last isolate was started.
    last_start: Instant,
    groups: HashMap<String, Vec<(S, Weak<Connection>)>>,
}

impl<S: PartialEq> Pool<S> {
    /// A worker that waits for such an isolate, best one that is quite ready.
    fn take_ready(&mut self, spec: &S) -> Option<Arc<Connection>> {
        self.ready.retain(|(_, connection)| !connection.is_gone());
        let fits = |(with, _): &(S, Arc<Connection>)| with == spec;
        let index = (self.ready.iter())
            .position(|ready| fits(ready) && ready.1.is_ready())
            .or_else(|| self.ready.iter().position(fits))?;
        Some(self.ready.swap_remove(index).1)
    }

    /// A worker of this trust group that has room.
    fn of_group(&mut self, name: &str, spec: &S) -> Option<Arc<Connection>> {
        let workers = self.groups.get_mut(name)?;
        workers.retain(|(_, worker)| worker.upgrade().is_some_and(|worker| !worker.is_gone()));
        if workers.is_empty() {
            self.groups.remove(name);
            return None;
        }
        (workers.iter().filter(|(with, _)| with == spec))
            .filter_map(|(_, worker)| worker.upgrade())
            .find(|worker| worker.isolates() < GROUP_SIZE)
    }
}

impl<L: WorkerLauncher> WorkerBackend<L> {
    /// A backend with the workers of this launcher. Nothing is started before the first isolate.
    #[must_use]
    pub fn new(launcher: L) -> Self {
        Self::with(launcher, None)
    }

    /// As [`WorkerBackend::new`], for a host whose own tasks run in `runtime`, which must have its I/O and
    /// time drivers. Connections are driven there, too: no thread has to be woken for a message, and those that
    /// tasks send one after the other are written together. For a host that never computes for long.
    #[must_use]
    pub fn driven_by(launcher: L, runtime: Handle) -> Self {
        Self::with(launcher, Some(runtime))
    }

    fn with(launcher: L, runtime: Option<Handle>) -> Self {
        let pool = Pool {
            ready: Vec::new(),
            coming: 0,
            last_start: Instant::now(),
            groups: HashMap::new(),
        };
        Self {
            workers: Arc::new(Workers {
                launcher,
                runtime,
                pool: Mutex::new(pool),
            }),
        }
    }
}

impl<L: WorkerLauncher> Workers<L> {
    fn spec(&self, options: &IsolateOptions) -> L::Spec {
        let isolates = match options.group {
            Some(_) => GROUP_SIZE as u32,
            None => 1,
        };
        self.launcher.spec(options, isolates)
    }

    /// Starts a worker and the task that drives its connection.
    fn launch(&self, spec: &L::Spec) -> Result<Arc<Connection>, StartError> {
        let gathers = self.runtime.is_some();
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => event_loop()?,
        };
        let (sender, events) = unbounded_channel();
        let on_event = Box::new(move |event| {
            // The task is there until the last event.
            let _ = sender.send(event);
        });
        let worker = self.launcher.launch(spec, on_event)?;
        let driver = {
            let _entered = runtime.enter();
            rustix::io::ioctl_fionbio(&worker.socket, true)
                .map_err(std::io::Error::from)
                .and_then(|()| Driver::new(Connection::new(worker, gathers), events))
        };
        let driver = driver.map_err(|error| StartError {
            what: format!("cannot wait for messages of a worker: {error}"),
            checked: "ioctl(2) FIONBIO, epoll_ctl(2)".to_owned(),
            fix: "raise the limit on descriptors (ulimit -n)".to_owned(),
        })?;
        let connection = driver.connection();
        runtime.spawn(driver);
        Ok(connection)
    }

    /// Has a worker of this trust group run an isolate: one that has room, or a new one.
    fn start_in_group(&self, name: String, mut guest: RemoteGuest) -> Result<(), StartError> {
        let spec = self.spec(guest.options());
        loop {
            let next = self.pool.lock().of_group(&name, &spec);
            let Some(worker) = next else { break };
            match worker.assign(guest) {
                Ok(()) => return Ok(()),
                Err(back) => guest = back,
            }
        }
        let worker = self.launch(&spec)?;
        let known = Arc::downgrade(&worker);
        let mut pool = self.pool.lock();
        pool.groups.entry(name).or_default().push((spec, known));
        drop(pool);
        give(&worker, guest);
        Ok(())
    }
}

/// Has a worker that was just started run the isolate.
fn give(worker: &Arc<Connection>, guest: RemoteGuest) {
    if let Err(guest) = worker.assign(guest) {
        guest.start_failed(worker.failure());
    }
}

impl<L: WorkerLauncher> IsolationBackend for WorkerBackend<L> {
    fn start(&self, isolate: NewIsolate) -> Result<(), StartError> {
        let event_loop = event_loop()?;
        let mut guest = isolate.into_remote();
        if let Some(name) = guest.options().group.clone() {
            return self.workers.start_in_group(name, guest);
        }
        // One that is kept ready, else a new one, for which the caller does not wait.
        let spec = self.workers.spec(guest.options());
        self.workers.pool.lock().last_start = Instant::now();
        loop {
            let next = self.workers.pool.lock().take_ready(&spec);
            let Some(worker) = next else { break };
            match worker.assign(guest) {
                Ok(()) => return Ok(()),
                Err(back) => guest = back,
            }
        }
        let workers = Arc::clone(&self.workers);
        event_loop.spawn_blocking(move || match workers.launch(&spec) {
            Ok(worker) => give(&worker, guest),
            Err(error) => guest.start_failed(error),
        });
        Ok(())
    }

    fn warm_up(&self, options: &Arc<IsolateOptions>, count: usize) {
        let workers = &self.workers;
        if options.group.is_some() || options.isolation != workers.launcher.isolation() {
            return;
        }
        let Ok(event_loop) = event_loop() else { return };
        let spec = workers.spec(options);
        let missing = {
            let mut pool = workers.pool.lock();
            let have = (pool.ready.iter())
                .filter(|(with, worker)| *with == spec && !worker.is_gone())
                .count();
            let missing = count.saturating_sub(have + pool.coming);
            pool.coming += missing;
            missing
        };
        for _ in 0..missing {
            event_loop.spawn(refill(Arc::downgrade(workers), spec.clone()));
        }
    }
}

/// Starts a worker for the pool, unless the backend has been dropped by then.
async fn refill<L: WorkerLauncher>(workers: Weak<Workers<L>>, spec: L::Spec) {
    let began = Instant::now();
    let launching = loop {
        tokio::time::sleep(REFILL_AFTER).await;
        let Some(workers) = workers.upgrade() else {
            return;
        };
        let quiet = workers.pool.lock().last_start.elapsed();
        if quiet >= REFILL_AFTER || began.elapsed() >= REFILL_AT_LATEST {
            break workers;
        }
    };
    let launching = move || (launching.launch(&spec), spec);
    let launched = tokio::task::spawn_blocking(launching).await;
    let Some(workers) = workers.upgrade() else {
        if let Ok((Ok(worker), _)) = launched {
            worker.kill();
        }
        return;
    };
    let mut pool = workers.pool.lock();
    pool.coming = pool.coming.saturating_sub(1);
    match launched {
        Ok((Ok(worker), spec)) => pool.ready.push((spec, worker)),
        Ok((Err(error), _)) => tracing::debug!("no worker kept ready: {error}"),
        Err(error) => tracing::debug!("no worker kept ready: {error}"),
    }
}

impl<L: WorkerLauncher> Drop for Workers<L> {
    fn drop(&mut self) {
        for (_, worker) in self.pool.lock().ready.drain(..) {
            worker.kill();
        }
    }
}
