//! One mirror: an isolate, and everything that is open between it and its host.
//!
//! Invariants:
//! 1. A request takes a place, its [`Slot`], and gives it back when the guest is done with it, not when the
//!    client is.
//! 2. Whatever is open ends with the mirror: requests get an error, streams and sockets close, what the
//!    guest asked for is dropped.
//! 3. What the guest names (streams, sockets, requests) is looked up in this mirror's own tables.

mod ahead;
mod asks;
mod charges;
mod incoming;
mod live;
mod outgoing;
mod pipes;
mod receive;
mod requests;
mod sockets;
mod targets;
mod upstream;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use stockade_capability::Owner;
use stockade_http::{Charges, OnBehalf};
use stockade_protocol::Payload;
use stockade_supervisor::{End, IsolateHandle, SendError};
use tokio::runtime::Handle;

pub(crate) use charges::Charge;
pub(crate) use incoming::GuestStream;
pub(crate) use live::{Lived, live};
pub(crate) use outgoing::{OwnedStream, Reading};
pub(crate) use requests::{GuestReply, ReplyBody, TracedCall};
pub(crate) use sockets::AcceptedSocket;

use crate::limits::InstanceLimits;
use crate::observer::MirrorEndReason;
use crate::pool::Pool;
use crate::stats::{MirrorState, MirrorStats};

/// Messages to a guest that may wait before senders of more wait, too.
const CROWDED: usize = 512;

/// How long a mirror that is for one request stays after its last WebSocket has closed, so that the guest's handlers
/// run.
const AFTER_SOCKETS: Duration = Duration::from_secs(1);

/// How often to look whether fewer wait.
const CROWDED_LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Mirror {
    me: Weak<Self>,
    pub(crate) number: u32,
    pub(crate) handle: IsolateHandle,
    pub(crate) pool: Arc<Pool>,
    /// When its start began and how long it took, where this crate has started it.
    pub(crate) start: Option<(SystemTime, Duration)>,
    born: Instant,
    in_flight: AtomicUsize,
    served: AtomicU64,
    draining: AtomicBool,
    drain_until: Mutex<Option<Instant>>,
    /// CPU time of late, in percent of a core.
    cpu_percent: AtomicU8,
    last_cpu: Mutex<(Instant, Duration)>,
    /// Why it is to be replaced or ended; the first reason stands.
    retire: Mutex<Option<MirrorEndReason>>,
    /// What it was caught at.
    offence: Mutex<Option<String>>,
    next_request: AtomicU64,
    requests: requests::Requests,
    incoming: incoming::Incoming,
    outgoing: outgoing::Outgoing,
    sockets: sockets::Sockets,
    upstream: upstream::Upstream,
    pipes: pipes::Pipes,
    asks: asks::Asks,
    targets: targets::Targets,
    charges: Charges,
    /// Bytes of the guest that nobody has taken yet.
    buffered: AtomicUsize,
    /// Complaints that were reported, so that a guest cannot cause them without end.
    complaints: AtomicU32,
    /// A debugger is attached.
    debugged: AtomicBool,
}

/// A request's place in a mirror.
pub(crate) struct Slot {
    pub(crate) mirror: Arc<Mirror>,
    /// Once the request is known.
    charge: Option<Arc<Charge>>,
}

impl Slot {
    /// What the guest does for the request counts for this client.
    pub(crate) fn charge_to(&mut self, client: OnBehalf) {
        self.charge = self.mirror.charge(client).map(Arc::new);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the place goes to another request.
        self.charge = None;
        self.mirror.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.mirror.pool.room_in(&self.mirror);
    }
}

/// Runs what a guest waits for so that a panic in it, an error of Stockade's own, ends no more than that;
/// `None` then.
async fn unbroken<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

/// Bytes of a guest that nobody has taken yet.
pub(crate) struct Buffered {
    mirror: Arc<Mirror>,
    bytes: usize,
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.mirror.unbuffer(self.bytes);
    }
}

impl Mirror {
    pub(crate) fn new(
        number: u32,
        handle: IsolateHandle,
        start: Option<(SystemTime, Duration)>,
        pool: Arc<Pool>,
    ) -> Arc<Self> {
        let born = Instant::now();
        let owner = Owner {
            instance: Arc::clone(&pool.options.name),
            start: pool.start,
            mirror: number,
        };
        let asks = asks::Asks::new(owner, Arc::clone(&pool.services));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            number,
            handle,
            pool,
            start,
            born,
            in_flight: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            drain_until: Mutex::new(None),
            cpu_percent: AtomicU8::new(0),
            last_cpu: Mutex::new((born, Duration::ZERO)),
            retire: Mutex::new(None),
            offence: Mutex::new(None),
            next_request: AtomicU64::new(1),
            requests: requests::Requests::default(),
            incoming: incoming::Incoming::default(),
            outgoing: outgoing::Outgoing::default(),
            sockets: sockets::Sockets::default(),
            upstream: upstream::Upstream::default(),
            pipes: pipes::Pipes::default(),
            asks,
            targets: targets::Targets::default(),
            charges: Charges::default(),
            buffered: AtomicUsize::new(0),
            complaints: AtomicU32::new(0),
            debugged: AtomicBool::new(false),
        })
    }

    pub(crate) fn limits(&self) -> &InstanceLimits {
        &self.pool.options.limits
    }

    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) fn is_debugged(&self) -> bool {
        self.debugged.load(Ordering::Relaxed)
    }

    /// A debugger has been attached, or is no more.
    pub(crate) fn set_debugged(&self, debugged: bool) {
        self.debugged.store(debugged, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn cpu_percent(&self) -> u8 {
        self.cpu_percent.load(Ordering::Relaxed)
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.sockets.count()
    }

    /// Requests whose `waitUntil` promises are open.
    pub(crate) fn background(&self) -> usize {
        self.requests.background()
    }

    /// Whether it takes requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::SeqCst) && self.handle.end().is_none()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// A place for one more request, if there is one.
    pub(crate) fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        if !self.is_open() {
            return None;
        }
        if self.pool.is_fresh() {
            return self.take_only_slot();
        }
        let most = self.limits().concurrency.max(1);
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n < most).then_some(n + 1)
            })
            .ok()?;
        // A drain that began meanwhile may have checked before. The number is not decreased by way of a slot,
        // which would serve the queue that is being served now.
        if self.is_draining() {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.pool.wake.notify_one();
            return None;
        }
        Some(Slot {
            mirror: Arc::clone(self),
            charge: None,
        })
    }

    /// The place of a mirror that is for one request: it takes no more from here on.
    fn take_only_slot(self: &Arc<Self>) -> Option<Slot> {
        // First: what drains the mirror afterwards finds that it is not at rest.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.draining.swap(true, Ordering::SeqCst) {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Slot {
            mirror: Arc::clone(self),
            charge: None,
        })
    }

    /// Ends a mirror that is for one request and has not got it; nothing happens if it has.
    pub(crate) fn end_unused(&self, reason: MirrorEndReason) {
        if !self.draining.swap(true, Ordering::SeqCst) {
            self.end(reason);
        }
    }

    /// Counts one request against the number that a mirror may serve.
    fn count_request(&self) {
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self
            .pool
            .options
            .recycle
            .requests
            .is_some_and(|most| served >= most)
            && self.retire(MirrorEndReason::RecycledForRequests)
        {
            self.pool.wake.notify_one();
        }
    }

    /// Notes that it is to be replaced; false if that was known.
    pub(crate) fn retire(&self, reason: MirrorEndReason) -> bool {
        let mut retire = self.retire.lock();
        let first = retire.is_none();
        retire.get_or_insert(reason);
        first
    }

    pub(crate) fn retiring(&self) -> Option<MirrorEndReason> {
        *self.retire.lock()
    }

    /// Takes no more requests, and ends with the last it has, or when `within` is over.
    pub(crate) fn drain(&self, reason: MirrorEndReason, within: Duration) {
        self.retire(reason);
        let mut until = self.drain_until.lock();
        let new = Instant::now() + within;
        *until = Some(until.map_or(new, |old| old.min(new)));
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether nothing of it is left to wait for.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.in_flight() == 0
            && self.background() == 0
            && self.open_sockets() == 0
            && !self.is_kept()
    }

    /// As [`Mirror::is_at_rest`], for a mirror that ends with its one request: a guest whose last WebSocket has closed
    /// gets a moment to handle that.
    pub(crate) fn has_served(&self) -> bool {
        self.is_at_rest() && self.sockets.closed_for() >= AFTER_SOCKETS
    }

    /// Whether the time it has for its last requests is over.
    pub(crate) fn is_drain_over(&self) -> bool {
        self.drain_until
            .lock()
            .is_some_and(|until| Instant::now() >= until)
    }

    /// Ends the isolate now.
    pub(crate) fn end(&self, reason: MirrorEndReason) {
        self.retire(reason);
        self.draining.store(true, Ordering::SeqCst);
        self.handle.destroy();
    }

    /// Ends a mirror that does what no honest runtime does.
    fn misbehaved(&self, what: &str) {
        let mut offence = self.offence.lock();
        if offence.is_some() {
            return;
        }
        let what: String = what.chars().take(200).collect();
        self.pool.observer.misbehaved(self.number, &what);
        *offence = Some(what);
        drop(offence);
        *self.retire.lock() = Some(MirrorEndReason::Misbehaved);
        self.end(MirrorEndReason::Misbehaved);
    }

    /// Reports violations of the mirror that were corrected, a few times in its life.
    fn complain(&self, what: &str) {
        const MOST: u32 = 16;
        if self.complaints.fetch_add(1, Ordering::Relaxed) < MOST {
            self.pool.observer.misbehaved(self.number, what);
        }
    }

    /// Sends a control message now, or when there is room for it in the guest's queue.
    fn notify(&self, name: &'static str, data: Payload) {
        self.now_or_later(move |handle| handle.control(name, data.clone()));
    }

    /// Calls `send` now, and where the guest's queue is full again when there is room. The guest's end is received
    /// elsewhere.
    fn now_or_later(
        &self,
        send: impl Fn(&IsolateHandle) -> Result<(), SendError> + Send + Sync + 'static,
    ) {
        if !matches!(send(&self.handle), Err(SendError::Full { .. })) {
            return;
        }
        // Without a runtime the guest is ending with its host.
        if let (Some(mirror), Ok(runtime)) = (self.me.upgrade(), Handle::try_current()) {
            runtime.spawn(async move { mirror.until_taken(send).await });
        }
    }

    /// Calls `send` until the guest's queue has room, or the guest has ended.
    async fn until_taken(&self, send: impl Fn(&IsolateHandle) -> Result<(), SendError> + Sync) {
        loop {
            match send(&self.handle) {
                Err(SendError::Full { .. }) => self.handle.drain().await,
                Ok(()) | Err(SendError::Ended { .. }) => return,
                Err(error) => {
                    tracing::error!(instance = %self.pool.options.name, mirror = self.number, %error, "a message was not sent");
                    return;
                }
            }
        }
    }

    /// Waits while the guest has many messages that it has not handled.
    async fn room_for_messages(&self) {
        while self.handle.stats().queued_to > CROWDED && self.handle.end().is_none() {
            tokio::time::sleep(CROWDED_LOOK).await;
        }
    }

    /// Takes `bytes` that the guest sent into account; false when it has sent too much. One message of any
    /// size is not too much.
    fn buffer(&self, bytes: usize) -> bool {
        let before = self.buffered.fetch_add(bytes, Ordering::Relaxed);
        before == 0 || before.saturating_add(bytes) <= self.limits().buffered
    }

    /// Takes `bytes` of the guest into account until the result is dropped; `None` when too much waits.
    fn count_buffered(self: &Arc<Self>, bytes: usize) -> Option<Buffered> {
        let buffered = Buffered {
            mirror: Arc::clone(self),
            bytes,
        };
        self.buffer(bytes).then_some(buffered)
    }

    fn unbuffer(&self, bytes: usize) {
        self.buffered.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Checks what changes with time: recent CPU time, requests that are stuck, promises that took
    /// too long, age and memory.
    pub(crate) fn look(&self, now: Instant) {
        self.settle();
        let stats = self.handle.stats();
        {
            let mut last = self.last_cpu.lock();
            let elapsed = now.saturating_duration_since(last.0);
            if elapsed >= Duration::from_millis(50) {
                let cpu = stats.cpu.saturating_sub(last.1);
                let percent = cpu.as_secs_f64() * 100.0 / elapsed.as_secs_f64();
                self.cpu_percent
                    .store(percent.min(255.0) as u8, Ordering::Relaxed);
                *last = (now, stats.cpu);
            }
        }
        let limits = self.limits();
        self.requests.forget_background(now, limits.wait_until);
        self.drop_targets_at_rest();
        if self.is_debugged() {
            // What it does not do may be because it is paused.
            return;
        }
        let stuck = self.requests.stuck(now, limits.abort_grace);
        let recycle = &self.pool.options.recycle;
        if self.pool.is_fresh() && stuck > 0 {
            self.drain(MirrorEndReason::RecycledForStuck, Duration::ZERO);
        } else if stuck >= limits.stuck.min(limits.concurrency).max(1) {
            self.retire(MirrorEndReason::RecycledForStuck);
        } else if recycle.memory.is_some_and(|most| stats.memory > most) {
            self.retire(MirrorEndReason::RecycledForMemory);
        } else if recycle.age.is_some_and(|most| self.age() > most) {
            self.retire(MirrorEndReason::RecycledForAge);
        }
    }

    /// Closes everything that is open; requests are answered with `end`.
    pub(crate) fn close(&self, end: &End) {
        self.draining.store(true, Ordering::SeqCst);
        self.requests.close(end);
        self.incoming.close();
        self.outgoing.close();
        self.sockets.close();
        self.upstream.close();
        self.pipes.close();
        self.asks.close();
        self.targets.close();
    }

    pub(crate) fn stats(&self) -> MirrorStats {
        let stats = self.handle.stats();
        MirrorStats {
            mirror: self.number,
            state: if self.is_draining() {
                MirrorState::Draining
            } else {
                MirrorState::Ready
            },
            in_flight: self.in_flight(),
            requests: self.served(),
            sockets: self.open_sockets(),
            cpu: stats.cpu,
            memory: stats.memory,
            age: self.age(),
            debugged: self.is_debugged(),
        }
    }
}
