//! An instance, as others see it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Request, Response};
use parking_lot::Mutex;
use stockade_capability::{CallPayload, Pipe};
use stockade_http::Body;
use stockade_supervisor::{DebugSession, IsolateHandle, Supervisor};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cron::{run_crons, run_once};
use crate::error::FetchError;
use crate::fetch;
use crate::mirror::Mirror;
use crate::observer::{CronOutcome, MirrorEndReason, Observer, ScaleCause};
use crate::options::InstanceOptions;
use crate::pool::{Pool, Readiness};
use crate::reconciler::{REPLACED, RESTART, Reconciler};
use crate::services::{Services, Transport};
use crate::stats::{Drained, InstanceStats};

/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(10);

/// How long the ends of mirrors are waited for beyond the deadline.
const LAST: Duration = Duration::from_secs(6);

/// Mirrors that an operator can start, the ones there are included; as many as a configuration can ask for.
const MOST_MIRRORS: usize = 1000;

/// Why nothing was done with a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// There is none of this number, or it is not ready yet.
    #[error("there is no mirror {0} that runs")]
    Unknown(u32),
    /// There are as many as there may be.
    #[error("there are {0} mirrors, and an instance has no more")]
    Most(usize),
    /// The instance is being stopped or replaced.
    #[error("the instance is being stopped or replaced")]
    Draining,
    /// Its isolate has ended, or is debugged or profiled.
    #[error("{0}")]
    Probed(String),
}

/// A debugger's session with a mirror. Dropping it detaches the debugger.
pub struct MirrorDebugger {
    session: DebugSession,
    mirror: Arc<Mirror>,
}

impl MirrorDebugger {
    /// What the debugger and the mirror's isolate say to each other.
    #[must_use]
    pub fn session(&self) -> &DebugSession {
        &self.session
    }
}

impl Drop for MirrorDebugger {
    fn drop(&mut self) {
        self.mirror.set_debugged(false);
    }
}

/// One site's code, running at its limits. Cheap to clone; dropping the last clone ends its mirrors.
#[derive(Clone)]
pub struct Instance {
    pool: Arc<Pool>,
    life: Arc<Life>,
}

/// Ends the instance with its last clone.
struct Life {
    pool: Arc<Pool>,
    stop: CancellationToken,
    reconciler: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.pool.begin_drain();
        self.stop.cancel();
    }
}

impl Instance {
    /// Starts what the options ask for, in the background; [`Instance::ready`] waits for it. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn start(
        options: InstanceOptions,
        supervisor: Supervisor,
        services: Arc<dyn Services>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let pool = Pool::new(options, supervisor, services, observer);
        let stop = CancellationToken::new();
        let reconciler = Reconciler::new(Arc::clone(&pool)).keep(stop.clone());
        let reconciler = tokio::spawn(reconciler);
        if !pool.options.crons.is_empty() {
            tokio::spawn(run_crons(Arc::clone(&pool), stop.clone()));
        }
        Self {
            life: Arc::new(Life {
                pool: Arc::clone(&pool),
                stop,
                reconciler: Mutex::new(Some(reconciler)),
            }),
            pool,
        }
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &InstanceOptions {
        &self.pool.options
    }

    /// Gives a request to a mirror and waits for the head of its response. Dropping the future, or the
    /// response's body, aborts the request in the guest.
    ///
    /// # Errors
    /// Why there is no response of the guest; [`FetchError::status`] is what to answer.
    pub async fn fetch(&self, request: Request<Body>) -> Result<Response<Body>, FetchError> {
        fetch::fetch(&self.pool, request).await
    }

    /// Calls a method that the guest's module offers to other instances; `args` is a JSON array.
    ///
    /// # Errors
    /// Why there is no value.
    pub async fn call(&self, method: &str, args: CallPayload) -> Result<CallPayload, FetchError> {
        fetch::call(&self.pool, method, args).await
    }

    /// Gives a connection to the `connect` handler of a mirror, and waits until the handler is done: it may be done
    /// before the connection is closed.
    ///
    /// # Errors
    /// Why no handler has it, or why the handler failed. The connection is closed where no handler has it.
    pub async fn connect(&self, pipe: Pipe, transport: Transport) -> Result<(), FetchError> {
        fetch::connect(&self.pool, pipe, transport).await
    }

    /// Calls `scheduled` of a mirror now, for this entry of `crons` and this time in milliseconds since 1970, whether or not
    /// the clock calls it meanwhile. The run goes on, and its outcome reaches the observer, if the future is dropped.
    pub async fn run_scheduled(&self, cron: &str, time: i64) -> CronOutcome {
        let running = tokio::spawn(run_once(Arc::clone(&self.pool), cron.into(), time));
        running.await.unwrap_or_else(|error| CronOutcome::Failed {
            why: error.to_string(),
        })
    }

    /// Takes no more requests, lets those that run come to their end, `waitUntil` included, and ends the
    /// mirrors; at the deadline in any case.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        // 1001: going away (RFC 6455, section 7.4.1).
        self.end(deadline, 1001, "the site is being stopped").await
    }

    /// Ends as [`Self::drain`] does, for another instance that has this one's place: WebSockets that are cut are closed with the
    /// code that asks clients to connect again.
    pub async fn replaced(&self, deadline: Duration) -> Drained {
        self.end(deadline, RESTART, REPLACED).await
    }

    /// Ends, and closes the WebSockets that are open at the deadline with this code and reason.
    async fn end(&self, deadline: Duration, code: u16, reason: &'static str) -> Drained {
        let until = Instant::now() + deadline;
        self.pool.begin_drain();
        while !self.is_at_rest() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        let mut drained = Drained {
            requests_cut: self.pool.queue.length(),
            ..Drained::default()
        };
        for mirror in self.pool.mirrors() {
            drained.requests_cut += mirror.in_flight();
            drained.sockets_cut += mirror.open_sockets();
            drained.background_cut += mirror.background();
            mirror.close_sockets(code, reason);
        }
        self.life.stop.cancel();
        let reconciler = self.life.reconciler.lock().take();
        if let Some(reconciler) = reconciler {
            let _ = tokio::time::timeout(LAST, reconciler).await;
        }
        let until = Instant::now() + LAST;
        while self.pool.settling.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        drained
    }

    /// The isolate of the mirror with this number, for an operator who wants to know what it is doing.
    #[must_use]
    pub fn isolate(&self, mirror: u32) -> Option<IsolateHandle> {
        let mirrors = self.pool.mirrors();
        let found = mirrors.iter().find(|one| one.number == mirror);
        found.map(|mirror| mirror.handle.clone())
    }

    /// Attaches a debugger to a mirror, whose isolate was created for debuggers. The mirror's clocks stop while it is paused,
    /// and it is not replaced for what it does not do.
    ///
    /// # Errors
    /// When there is no such mirror, or its isolate is debugged or profiled already.
    pub fn debug(&self, number: u32) -> Result<MirrorDebugger, MirrorError> {
        let mirror = self.mirror(number)?;
        let session = mirror.handle.debug();
        let session = session.map_err(|error| MirrorError::Probed(error.to_string()))?;
        mirror.set_debugged(true);
        Ok(MirrorDebugger { session, mirror })
    }

    fn is_at_rest(&self) -> bool {
        self.pool.queue.length() == 0
            && self.pool.mirrors().iter().all(|mirror| mirror.is_at_rest())
    }

    /// Starts one mirror more, and gives the number of mirrors that are wanted then. Autoscaling may end one later.
    ///
    /// # Errors
    /// When it has as many as one instance may have, or is being stopped.
    pub fn start_mirror(&self) -> Result<usize, MirrorError> {
        self.check_running()?;
        let add = |wanted| (wanted < MOST_MIRRORS).then_some(wanted + 1);
        self.want(add).ok_or(MirrorError::Most(MOST_MIRRORS))
    }

    /// Lets a mirror end with the last request that it has, and starts no other in its place: one mirror less is wanted.
    /// With none left, the next request starts one.
    ///
    /// # Errors
    /// When there is no such mirror, or the instance is being stopped.
    pub fn drain_mirror(&self, number: u32) -> Result<(), MirrorError> {
        let mirror = self.mirror(number)?;
        if !mirror.is_draining() {
            self.want(|wanted| wanted.checked_sub(1));
            mirror.drain(MirrorEndReason::ScaledDown, self.pool.options.limits.drain);
        }
        self.pool.wake.notify_one();
        Ok(())
    }

    /// Replaces a mirror: it drains once its successor serves.
    ///
    /// # Errors
    /// When there is no such mirror, or the instance is being stopped.
    pub fn restart_mirror(&self, number: u32) -> Result<(), MirrorError> {
        let mirror = self.mirror(number)?;
        if self.pool.is_fresh() {
            // It has no successor of its own: the reconciler keeps the number.
            mirror.end_unused(MirrorEndReason::Restarted);
        } else {
            mirror.retire(MirrorEndReason::Restarted);
        }
        self.pool.wake.notify_one();
        Ok(())
    }

    /// Ends a mirror now, with the requests that it has; another one is started in its place.
    ///
    /// # Errors
    /// When there is no such mirror, or the instance is being stopped.
    pub fn kill_mirror(&self, number: u32) -> Result<(), MirrorError> {
        self.mirror(number)?.end(MirrorEndReason::Killed);
        self.pool.wake.notify_one();
        Ok(())
    }

    fn check_running(&self) -> Result<(), MirrorError> {
        match self.pool.is_draining() {
            true => Err(MirrorError::Draining),
            false => Ok(()),
        }
    }

    fn mirror(&self, number: u32) -> Result<Arc<Mirror>, MirrorError> {
        self.check_running()?;
        let mirrors = self.pool.mirrors();
        let mut mirrors = mirrors.into_iter();
        let found = mirrors.find(|mirror| mirror.number == number);
        found.ok_or(MirrorError::Unknown(number))
    }

    /// Changes how many mirrors are wanted. `None` if `change` does not.
    fn want(&self, change: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let wanted = &self.pool.wanted;
        let before = wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, &change);
        let before = before.ok()?;
        let now = change(before)?;
        self.pool.observer.scaled(before, now, ScaleCause::Operator);
        self.pool.wake.notify_one();
        Some(now)
    }

    /// What it is doing now.
    #[must_use]
    pub fn stats(&self) -> InstanceStats {
        self.pool.stats()
    }

    /// Waits for the first mirror; at once where none is wanted.
    ///
    /// # Errors
    /// Why the first attempt to start one failed.
    pub async fn ready(&self) -> Result<(), FetchError> {
        let mut readiness = self.pool.readiness();
        if self.stats().wanted == 0 {
            return Ok(());
        }
        let known = readiness
            .wait_for(|readiness| !matches!(readiness, Readiness::Unknown))
            .await;
        match known.as_deref() {
            Ok(Readiness::Failed(why)) => Err(FetchError::NotStarted {
                why: why.clone(),
                retry_after: Duration::from_secs(1),
            }),
            Ok(_) => Ok(()),
            Err(_) => Err(FetchError::Draining),
        }
    }
}
