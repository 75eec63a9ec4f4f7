//! What the parts of an instance share: its mirrors, its queue, and who gets a request.
//!
//! Invariants:
//! 1. Requests that wait are served before new ones (FIFO).
//! 2. No lock is held while anything is awaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use stockade_limits::Fresh;
use stockade_supervisor::Supervisor;
use tokio::sync::{Notify, watch};

use crate::error::{FetchError, Refusal};
use crate::mirror::{Mirror, Slot};
use crate::observer::Observer;
use crate::options::InstanceOptions;
use crate::queue::Queue;
use crate::services::Services;
use crate::stats::{InstanceStats, MirrorState, MirrorStats};

pub(crate) struct Pool {
    pub(crate) options: InstanceOptions,
    pub(crate) supervisor: Supervisor,
    pub(crate) services: Arc<dyn Services>,
    pub(crate) observer: Arc<dyn Observer>,
    mirrors: RwLock<Vec<Arc<Mirror>>>,
    pub(crate) queue: Queue,
    /// Wakes the reconciler.
    pub(crate) wake: Notify,
    draining: AtomicBool,
    /// Where the next look for the least busy mirror begins.
    turn: AtomicUsize,
    failure: Mutex<Option<StartFailure>>,
    readiness: watch::Sender<Readiness>,
    pub(crate) wanted: AtomicUsize,
    /// Mirrors that are not ready yet, and since when they are on their way.
    starting: Mutex<Vec<(u32, Instant)>>,
    pub(crate) crashes: AtomicU32,
    /// CPU time of mirrors that have ended.
    cpu_of_the_gone: Mutex<Duration>,
    /// Mirrors that have ended and whose last use is not reported.
    pub(crate) settling: AtomicUsize,
    /// No other pool of this process has it.
    pub(crate) start: u64,
    born: Instant,
    /// When the last request came, in milliseconds of the pool's life.
    last_request: AtomicU64,
}

/// Pools that were made in this process.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// Why the last mirror could not be started, and when the next attempt is due.
struct StartFailure {
    why: String,
    retry_at: Instant,
}

/// Whether there is, or has been, a first mirror.
#[derive(Clone)]
pub(crate) enum Readiness {
    Unknown,
    Ready,
    Failed(String),
}

/// A place that was found, and whether it was waited for while there was no mirror at all.
pub(crate) struct Found {
    pub(crate) slot: Slot,
    pub(crate) cold: bool,
    /// It was not there at once.
    pub(crate) waited: bool,
}

impl Pool {
    pub(crate) fn new(
        options: InstanceOptions,
        supervisor: Supervisor,
        services: Arc<dyn Services>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            options,
            supervisor,
            services,
            observer,
            mirrors: RwLock::default(),
            queue: Queue::default(),
            wake: Notify::new(),
            draining: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            failure: Mutex::new(None),
            readiness: watch::Sender::new(Readiness::Unknown),
            wanted: AtomicUsize::new(0),
            starting: Mutex::default(),
            crashes: AtomicU32::new(0),
            cpu_of_the_gone: Mutex::new(Duration::ZERO),
            settling: AtomicUsize::new(0),
            start: STARTS.fetch_add(1, Ordering::Relaxed),
            born: Instant::now(),
            last_request: AtomicU64::new(0),
        })
    }

    /// Whether each request gets a mirror that was never used.
    pub(crate) fn is_fresh(&self) -> bool {
        self.options.fresh == Fresh::Request
    }

    /// A place for a request; waits in line where all mirrors are full.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn place(self: &Arc<Self>) -> Result<Found, FetchError> {
        if self.is_draining() {
            return Err(self.refuse(Refusal::Draining));
        }
        self.note_request();
        if self.queue.length() == 0
            && let Some(slot) = self.try_place()
        {
            return Ok(Found {
                slot,
                cold: false,
                waited: false,
            });
        }
        let cold = self.nobody_serves();
        if cold && let Some(error) = self.start_failure() {
            return Err(error);
        }
        let limits = &self.options.limits;
        let Some(mut ticket) = self.queue.enter(limits.queue) else {
            return Err(self.refuse(Refusal::QueueFull));
        };
        // A place may have become free before this request was in line.
        self.serve_queue();
        // A new mirror is needed where there is none, and for each request that is to have its own.
        if cold || self.is_fresh() {
            self.wake.notify_one();
        }
        let waited = tokio::time::timeout(limits.queue_wait, &mut ticket.answer).await;
        match waited {
            Ok(Ok(Ok(slot))) => Ok(Found {
                slot,
                cold,
                waited: true,
            }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(FetchError::Draining),
            Err(_) => Err(self.refuse(Refusal::WaitedTooLong)),
        }
    }

    /// Whether there is no mirror that takes requests, not even one that is full.
    fn nobody_serves(&self) -> bool {
        !self.mirrors.read().iter().any(|mirror| mirror.is_open())
    }

    fn refuse(&self, refusal: Refusal) -> FetchError {
        self.observer.refused(refusal);
        if refusal == Refusal::Draining {
            return FetchError::Draining;
        }
        FetchError::Busy {
            retry_after: Duration::from_secs(1),
            refusal,
        }
    }

    /// Why there is no mirror, if the last attempt failed and the next one is not due.
    fn start_failure(&self) -> Option<FetchError> {
        let failure = self.failure.lock();
        let failure = failure.as_ref()?;
        let left = failure.retry_at.checked_duration_since(Instant::now())?;
        Some(FetchError::NotStarted {
            why: failure.why.clone(),
            retry_after: left.max(Duration::from_secs(1)),
        })
    }

    /// A place in the mirror that is least busy; among equals in the one that computed least of late.
    fn try_place(&self) -> Option<Slot> {
        let mirrors = self.mirrors.read();
        let count = mirrors.len();
        if count == 1 {
            return mirrors.first()?.take_slot();
        }
        // Another request may take the place that was found: look again then.
        for _ in 0..4 {
            let from = self.turn.fetch_add(1, Ordering::Relaxed);
            let best = (0..count)
                .map(|step| &mirrors[from.wrapping_add(step) % count])
                .filter(|mirror| mirror.is_open())
                .min_by_key(|mirror| (mirror.in_flight(), mirror.cpu_percent()))?;
            if best.in_flight() >= self.options.limits.concurrency.max(1) {
                return None;
            }
            if let Some(slot) = best.take_slot() {
                return Some(slot);
            }
        }
        None
    }

    pub(crate) fn serve_queue(&self) {
        if self.queue.length() > 0 {
            self.queue.serve(|| self.try_place());
        }
    }

    /// A mirror has room for one more, or has become idle.
    pub(crate) fn room_in(&self, mirror: &Mirror) {
        self.serve_queue();
        if mirror.in_flight() == 0 && (mirror.is_draining() || self.is_draining()) {
            self.wake.notify_one();
        }
    }

    /// A number for a new mirror, which is on its way.
    pub(crate) fn begin_start(&self) -> u32 {
        let number = self.options.numbers.next();
        self.starting.lock().push((number, Instant::now()));
        number
    }

    fn started(&self, number: u32) -> Duration {
        let mut starting = self.starting.lock();
        let Some(index) = starting.iter().position(|(n, _)| *n == number) else {
            return Duration::ZERO;
        };
        starting.swap_remove(index).1.elapsed()
    }

    pub(crate) fn starting(&self) -> usize {
        self.starting.lock().len()
    }

    /// A mirror is ready.
    pub(crate) fn join(&self, mirror: &Arc<Mirror>, handlers: Vec<String>) {
        let took = self.started(mirror.number);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(
            instance = %self.options.name,
            mirror = mirror.number,
            handlers = handlers.join(", "),
            took_ms,
            "a mirror is ready"
        );
        *self.failure.lock() = None;
        let cold = self.queue.length() > 0;
        self.mirrors.write().push(Arc::clone(mirror));
        self.readiness.send_replace(Readiness::Ready);
        self.observer.started(mirror.number, cold, took);
        self.serve_queue();
        self.wake.notify_one();
    }

    /// A mirror has ended.
    pub(crate) fn leave(&self, mirror: &Arc<Mirror>, cpu: Duration) {
        self.mirrors
            .write()
            .retain(|other| other.number != mirror.number);
        self.add_cpu_of_the_gone(cpu);
    }

    pub(crate) fn add_cpu_of_the_gone(&self, cpu: Duration) {
        let mut sum = self.cpu_of_the_gone.lock();
        *sum = sum.saturating_add(cpu);
    }

    /// A mirror could not be started; another attempt is due after `retry_in`.
    pub(crate) fn start_failed(&self, number: u32, why: String, retry_in: Duration) {
        self.started(number);
        self.observer.start_failed(number, &why, retry_in);
        let nobody = self.nobody_serves();
        *self.failure.lock() = Some(StartFailure {
            why: why.clone(),
            retry_at: Instant::now() + retry_in,
        });
        self.readiness.send_if_modified(|readiness| {
            let first = matches!(readiness, Readiness::Unknown);
            if first {
                *readiness = Readiness::Failed(why.clone());
            }
            first
        });
        if nobody {
            self.queue.refuse(&FetchError::NotStarted {
                why,
                retry_after: retry_in.max(Duration::from_secs(1)),
            });
        }
    }

    pub(crate) fn mirrors(&self) -> Vec<Arc<Mirror>> {
        self.mirrors.read().clone()
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Takes no more requests; true the first time.
    pub(crate) fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::SeqCst)
    }

    fn note_request(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_request.store(now, Ordering::Relaxed);
    }

    /// Since the last request.
    pub(crate) fn idle_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_request.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(last)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.mirrors
            .read()
            .iter()
            .map(|mirror| mirror.in_flight())
            .sum()
    }

    pub(crate) fn stats(&self) -> InstanceStats {
        let mirrors = self.mirrors();
        let mut stats: Vec<MirrorStats> = mirrors.iter().map(|mirror| mirror.stats()).collect();
        let of_the_living: Duration = stats.iter().map(|mirror| mirror.cpu).sum();
        for (mirror, since) in self.starting.lock().iter() {
            stats.push(MirrorStats {
                mirror: *mirror,
                state: MirrorState::Starting,
                in_flight: 0,
                requests: 0,
                sockets: 0,
                cpu: Duration::ZERO,
                memory: 0,
                age: since.elapsed(),
                debugged: false,
            });
        }
        let start_error = (self.failure.lock().as_ref()).map(|failure| failure.why.clone());
        let starts = self.is_fresh()
            && start_error.is_none()
            && matches!(*self.readiness.borrow(), Readiness::Ready);
        InstanceStats {
            serves: starts || mirrors.iter().any(|mirror| mirror.is_open()),
            wanted: self.wanted.load(Ordering::Relaxed),
            draining: self.is_draining(),
            queued: self.queue.length(),
            in_flight: mirrors.iter().map(|mirror| mirror.in_flight()).sum(),
            cpu: self.cpu_of_the_gone.lock().saturating_add(of_the_living),
            crashes_in_a_row: self.crashes.load(Ordering::Relaxed),
            start_error,
            mirrors: stats,
        }
    }
}
