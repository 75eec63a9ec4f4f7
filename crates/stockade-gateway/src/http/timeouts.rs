//! What a connection is waiting for, and since when: written by those who read, write and answer, read by
//! the one who ends connections that wait too long.
//!
//! Times are milliseconds since the connection began, plus one; zero stands for "not waiting".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::access::Refusal;
use crate::limits::Limits;

/// Bytes a second that a response's piece must be taken at where no rate is set: how far the client is
/// with it can't be seen.
const LEAST_RATE: u64 = 500;

/// The state of one connection. All of it is advisory: a value read a moment too late ends a connection a
/// moment too late.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// Requests whose response is not complete.
    running: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Since when no request runs.
    idle: AtomicU64,
    /// Since when a head is being read.
    head: AtomicU64,
    /// Requests run side by side. Otherwise the rest of a head is not read while a request runs.
    multiplexed: AtomicBool,
    /// Since when the connection takes no bytes, and what it had taken by then.
    blocked: AtomicU64,
    blocked_at: AtomicU64,
    written: AtomicU64,
    /// Response bodies whose last piece has not been taken.
    outgoing: Mutex<Vec<Arc<Outgoing>>>,
    /// What the bytes of the client were refused for.
    spoilt: Mutex<Option<Spoilt>>,
    /// That has been said to the client, or counted.
    told: AtomicBool,
    /// The client may still be sending when the connection is closed.
    lingers: AtomicBool,
    /// The client takes nothing.
    stalled: AtomicBool,
    upgrade: Mutex<Upgrade>,
    /// No further request is wanted.
    last: Notify,
}

/// Why bytes of a client were refused, and of which of its requests they are.
#[derive(Debug, Clone, Copy)]
struct Spoilt {
    refusal: Refusal,
    request: u64,
}

/// Whether a connection that was asked to becomes something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    Undecided,
    No,
    Yes,
}

/// A piece of a response body on its way.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    since: AtomicU64,
    bytes: AtomicU64,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    Idle,
    Head,
    Stalled,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            running: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle: AtomicU64::new(1),
            head: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            blocked_at: AtomicU64::new(0),
            written: AtomicU64::new(0),
            outgoing: Mutex::default(),
            spoilt: Mutex::new(None),
            told: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            upgrade: Mutex::new(Upgrade::Undecided),
            last: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// A request begins; its number, from 1.
    pub(crate) fn begin(&self) -> u64 {
        self.running.fetch_add(1, Relaxed);
        self.idle.store(0, Relaxed);
        self.requests.fetch_add(1, Relaxed) + 1
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        if self.running.fetch_sub(1, Relaxed) == 1 {
            let now = self.now();
            self.idle.store(now, Relaxed);
            if self.head.load(Relaxed) != 0 {
                self.head.store(now, Relaxed);
            }
        }
    }

    /// A head is being read, or no longer.
    pub(crate) fn head(&self, reading: bool) {
        if !reading {
            if self.head.load(Relaxed) != 0 {
                self.head.store(0, Relaxed);
            }
        } else if self.head.load(Relaxed) == 0 {
            self.head.store(self.now(), Relaxed);
        }
    }

    /// Requests of this connection run side by side.
    pub(crate) fn multiplex(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes that the connection has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The connection takes no more bytes for now.
    pub(crate) fn blocked(&self) {
        if self.blocked.load(Relaxed) == 0 {
            self.blocked_at.store(self.written.load(Relaxed), Relaxed);
            self.blocked.store(self.now(), Relaxed);
        }
    }

    /// The connection has taken everything.
    pub(crate) fn flushed(&self) {
        if self.blocked.load(Relaxed) != 0 {
            self.blocked.store(0, Relaxed);
        }
    }

    /// Follows a response body.
    pub(crate) fn outgoing(&self) -> Arc<Outgoing> {
        let outgoing = Arc::<Outgoing>::default();
        self.outgoing.lock().push(Arc::clone(&outgoing));
        outgoing
    }

    /// Ends that.
    pub(crate) fn arrived(&self, outgoing: &Arc<Outgoing>) {
        let mut all = self.outgoing.lock();
        if let Some(index) = all.iter().position(|other| Arc::ptr_eq(other, outgoing)) {
            all.swap_remove(index);
        }
    }

    /// A piece of a response body was handed on, or the next is asked for (0).
    pub(crate) fn handed_on(&self, outgoing: &Outgoing, bytes: usize) {
        outgoing.bytes.store(bytes as u64, Relaxed);
        let since = if bytes == 0 { 0 } else { self.now() };
        outgoing.since.store(since, Relaxed);
    }

    /// The bytes of the client are refused from here on.
    pub(crate) fn spoil(&self, refusal: Refusal, request: u64) {
        self.spoilt
            .lock()
            .get_or_insert(Spoilt { refusal, request });
    }

    /// Why they are refused, if that is about this request. Whoever asks answers for it.
    pub(crate) fn spoilt(&self, request: u64) -> Option<Refusal> {
        let spoilt = self
            .spoilt
            .lock()
            .filter(|spoilt| spoilt.request == request)?;
        self.told.store(true, Relaxed);
        Some(spoilt.refusal)
    }

    /// The same, if nobody answered for it.
    pub(crate) fn spoilt_and_unanswered(&self) -> Option<Refusal> {
        let spoilt = (*self.spoilt.lock())?;
        (!self.told.swap(true, Relaxed)).then_some(spoilt.refusal)
    }

    /// What the client still sends is to be read, so that it can take the answer.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Relaxed);
    }

    /// What the client has not taken is to be dropped.
    pub(crate) fn stall(&self) {
        self.stalled.store(true, Relaxed);
    }

    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    /// Decides about the upgrade that the last request asked for.
    pub(crate) fn decide(&self, upgrade: Upgrade) {
        *self.upgrade.lock() = upgrade;
    }

    /// That decision, once.
    pub(crate) fn decision(&self) -> Upgrade {
        std::mem::replace(&mut *self.upgrade.lock(), Upgrade::Undecided)
    }

    /// Asks that the connection ends after the requests that run.
    pub(crate) fn make_last(&self) {
        self.last.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn until_last(&self) {
        self.last.notified().await;
    }

    /// Whether the connection waits too long, or else when to look again.
    pub(crate) fn check(&self, limits: &Limits) -> Result<Duration, Overdue> {
        let now = self.now();
        let mut next = limits
            .header_timeout
            .min(limits.idle_timeout)
            .min(limits.stall_timeout);
        let mut due = |since: u64, allowed: Duration, overdue| {
            if since == 0 {
                return Ok(());
            }
            let waited = Duration::from_millis(now.saturating_sub(since));
            if waited >= allowed {
                return Err(overdue);
            }
            next = next.min(allowed - waited);
            Ok(())
        };
        let reads = self.multiplexed.load(Relaxed) || self.running.load(Relaxed) == 0;
        let head = if reads { self.head.load(Relaxed) } else { 0 };
        due(head, limits.header_timeout, Overdue::Head)?;
        due(self.idle.load(Relaxed), limits.idle_timeout, Overdue::Idle)?;
        let blocked = self.blocked.load(Relaxed);
        if let Err(overdue) = due(blocked, limits.stall_timeout, Overdue::Stalled) {
            let taken = self.written.load(Relaxed) - self.blocked_at.load(Relaxed);
            if taken == 0 || taken < limits.body_rate * limits.stall_timeout.as_secs().max(1) {
                return Err(overdue);
            }
            self.blocked_at.store(self.written.load(Relaxed), Relaxed);
            self.blocked.store(now, Relaxed);
        }
        for outgoing in self.outgoing.lock().iter() {
            let bytes = outgoing.bytes.load(Relaxed);
            let rate = if limits.body_rate == 0 {
                LEAST_RATE
            } else {
                limits.body_rate
            };
            let allowed = Duration::from_secs(bytes / rate);
            let since = outgoing.since.load(Relaxed);
            due(since, limits.stall_timeout + allowed, Overdue::Stalled)?;
        }
        // Nothing waits less than a millisecond, which is the unit of all of this.
        Ok(next.max(Duration::from_millis(1)))
    }
}
