//! What the two ends of an isolate and the meter share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_policy::{ConsoleMode, IsolateOptions, Isolation};
use stockade_protocol::{CallId, GuestError, Payload, ToIsolate, harmless_line};
use tokio::sync::oneshot;

use crate::activity::Activity;
use crate::console_rate::ConsoleRate;
use crate::end::{DestroyReason, End, Figures, TerminateReason};
use crate::event::Event;
use crate::hub::Hub;
use crate::meter::GRACE;
use crate::queue::Queue;
use crate::rate::IoBudget;
use crate::requests::OpenRequests;
use crate::supervisor::Pool;
use crate::wall::{Breaker, Outside, StartError};
use crate::worker::{InnerLink, Untold};

/// Bytes of a place in a guest's code that are kept with its end.
const MAX_PLACE: usize = 512;

/// Takes messages out of an inbox on the thread that put them there.
pub(crate) trait Carrier: Send + Sync {
    /// Takes what it can; false when the consumer has to look itself.
    fn carry(&self) -> bool;
}

/// Bytes of events that may wait in the host where the console is [`ConsoleMode::Whole`]: the guest waits for
/// the reader of its output.
const WHOLE_CONSOLE_BYTES: usize = 4 << 20;

pub(crate) type Reply = Result<Payload, GuestError>;

pub(crate) struct Shared {
    pub(crate) id: u32,
    pub(crate) options: Arc<IsolateOptions>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) inbox: Queue<ToIsolate>,
    pub(crate) outbox: Queue<Event>,
    pub(crate) activity: Activity,
    pub(crate) breaker: Mutex<Option<Arc<dyn Breaker>>>,
    /// Takes messages on the sender's thread, where the isolate is in another process.
    pub(crate) carrier: Mutex<Option<Arc<dyn Carrier>>>,
    pub(crate) calls: Mutex<HashMap<CallId, oneshot::Sender<Reply>>>,
    pub(crate) next_call: AtomicU64,
    /// Requests of the guest that the host has not answered.
    pub(crate) requests: Mutex<OpenRequests>,
    /// Bytes of heap, ArrayBuffers and WebAssembly memory, when last measured.
    pub(crate) memory: AtomicU64,
    pub(crate) started: Mutex<Option<oneshot::Sender<Result<(), StartError>>>>,
    /// Set with the verdict, for a quick look.
    ending: AtomicBool,
    verdict: Mutex<Verdict>,
    /// In a worker process: the way to the host's process, in place of `outbox` and `hub`.
    pub(crate) post: Option<Arc<InnerLink>>,
    /// What that has to tell.
    pub(crate) untold: Mutex<Untold>,
    pub(crate) io: Option<IoBudget>,
    pub(crate) console: Mutex<ConsoleRate>,
    hub: Arc<Hub>,
    /// Its place in the hub's line: of the host's time so far, see there.
    pub(crate) served: AtomicU64,
    on_hub: AtomicBool,
    /// The host is ready for events; until then they wait in the outbox.
    listening: AtomicBool,
    /// `None` once the isolate has ended: what its worker said just before may still arrive.
    counts_as_work: Mutex<Option<bool>>,
}

#[derive(Default)]
struct Verdict {
    end: Option<End>,
    passed: Option<Instant>,
    /// The events of the end have been sent.
    reported: bool,
    /// The thread that ran the isolate is gone.
    seat_left: bool,
    abandoned: bool,
}

impl Shared {
    pub(crate) fn new(
        id: u32,
        options: Arc<IsolateOptions>,
        pool: Arc<Pool>,
        hub: Arc<Hub>,
        post: Option<Arc<InnerLink>>,
    ) -> Self {
        hub.work_began();
        let limits = &options.limits;
        Self {
            id,
            activity: Activity::new(limits.cpu_share),
            io: IoBudget::new(limits.io_ops, limits.io_bytes),
            console: Mutex::default(),
            post,
            untold: Mutex::default(),
            pool,
            inbox: Queue::new(),
            outbox: match options.console {
                ConsoleMode::Whole => Queue::with_room(WHOLE_CONSOLE_BYTES),
                _ => Queue::new(),
            },
            breaker: Mutex::new(None),
            carrier: Mutex::new(None),
            calls: Mutex::default(),
            next_call: AtomicU64::new(0),
            options,
            requests: Mutex::default(),
            memory: AtomicU64::new(0),
            started: Mutex::new(None),
            ending: AtomicBool::new(false),
            verdict: Mutex::default(),
            hub,
            served: AtomicU64::new(0),
            on_hub: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            counts_as_work: Mutex::new(Some(true)),
        }
    }

    /// Tells the hub that there are events.
    pub(crate) fn announce(self: &Arc<Self>) {
        // Read before it is written: most events find the isolate on the hub already.
        if self.listening.load(Ordering::SeqCst)
            && !self.on_hub.load(Ordering::SeqCst)
            && !self.on_hub.swap(true, Ordering::SeqCst)
        {
            self.hub.announce(Arc::clone(self));
        }
    }

    /// The host is ready for events.
    pub(crate) fn listen(self: &Arc<Self>) {
        self.listening.store(true, Ordering::SeqCst);
        if self.outbox.load().0 > 0 {
            self.announce();
        }
    }

    /// The hub has taken events; this isolate joins its line again if there are more.
    pub(crate) fn turn_ended(self: &Arc<Self>, hub: &Hub) {
        self.on_hub.store(false, Ordering::SeqCst);
        if self.outbox.has_items() && !self.on_hub.swap(true, Ordering::SeqCst) {
            hub.announce_again(Arc::clone(self));
        }
    }

    /// Keeps the hub's count of isolates that have something to do.
    pub(crate) fn set_work(&self, work: bool) {
        let mut counts = self.counts_as_work.lock();
        if counts.is_some_and(|counted| counted != work) {
            *counts = Some(work);
            if work {
                self.hub.work_began()
            } else {
                self.hub.work_ended()
            }
        }
    }

    /// The isolate never has anything to do again.
    fn end_work(&self) {
        if self.counts_as_work.lock().take() == Some(true) {
            self.hub.work_ended();
        }
    }

    /// How long the isolate may take to stop by itself.
    pub(crate) fn grace(&self) -> Duration {
        if self.post.is_some() {
            self.options.kill_grace
        } else {
            GRACE
        }
    }

    /// Waits on the isolate's own thread, no longer than it has to live.
    pub(crate) fn sleep_unless_ending(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.is_ending() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.verdict.lock().end.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        if let Some(outside) = self.outside() {
            return outside.figures;
        }
        let wall = self
            .activity
            .usage()
            .map_or(Duration::ZERO, |usage| usage.wall);
        let (cpu_total, cpu) = self.activity.cpu();
        Figures {
            cpu,
            cpu_total,
            wall,
            memory: self.memory.load(Ordering::Relaxed),
        }
    }

    /// What is known of an isolate in another process.
    pub(crate) fn outside(&self) -> Option<Outside> {
        let breaker = self.breaker.lock().clone();
        breaker.and_then(|breaker| breaker.outside())
    }

    /// Ends the isolate for breaking a limit. The first verdict stands.
    pub(crate) fn convict(&self, reason: TerminateReason, detail: String) {
        self.convict_with(reason, detail, self.figures());
    }

    /// As [`Shared::convict`], with figures that are known already.
    pub(crate) fn convict_with(&self, reason: TerminateReason, detail: String, figures: Figures) {
        self.pass(End::Terminated {
            reason,
            figures,
            detail,
        });
    }

    fn pass(&self, end: End) -> bool {
        {
            let mut verdict = self.verdict.lock();
            if verdict.end.is_some() {
                return false;
            }
            verdict.end = Some(end);
            verdict.passed = Some(Instant::now());
            self.ending.store(true, Ordering::SeqCst);
        }
        // The guest's thread may be in V8, waiting for its turn, waiting for room, or waiting for
        // messages: reach it in each.
        let breaker = self.breaker.lock().clone();
        if let Some(breaker) = breaker {
            breaker.terminate();
        }
        self.activity.release();
        self.outbox.close(false);
        self.inbox.close(true);
        true
    }

    /// Ends the isolate because the host wants so; what it had queued is still heard.
    pub(crate) fn destroy(self: &Arc<Self>, reason: DestroyReason) {
        if self.pass(End::Destroyed(reason)) {
            self.report();
        }
    }

    /// Tells the host how the isolate ended, once, and rejects what waits for it.
    pub(crate) fn report(self: &Arc<Self>) {
        let end = {
            let mut verdict = self.verdict.lock();
            let Some(end) = verdict.end.clone().filter(|_| !verdict.reported) else {
                return;
            };
            verdict.reported = true;
            end
        };
        if let Some(post) = &self.post {
            if let End::Terminated {
                reason,
                figures,
                detail,
            } = end
            {
                post.ended(self.id, reason, figures, detail);
            }
            return;
        }
        if let Some(started) = self.started.lock().take()
            && let End::Terminated { .. } = &end
        {
            let _ = started.send(Err(StartError {
                what: format!("the isolate ended before it was ready: {end}"),
                checked: "how it ended".to_owned(),
                fix: "try again; see the log (--verbose) for what ended it".to_owned(),
            }));
        }
        let dropped = self.console.lock().take_dropped();
        if dropped > 0 {
            self.push_event(Event::dropped_lines(dropped));
        }
        let destroyed = match end {
            End::Terminated {
                reason,
                figures,
                detail,
            } => {
                log::debug!(
                    "isolate #{} was ended: {} ({detail}); {figures}",
                    self.id,
                    reason.name()
                );
                self.push_event(Event::Terminated {
                    reason,
                    figures,
                    detail,
                });
                DestroyReason::Terminated
            }
            End::Destroyed(reason) => reason,
        };
        self.push_event(Event::Destroyed(destroyed));
        self.pool.remove(self.id);
        // Dropping the senders rejects the calls.
        self.calls.lock().clear();
        self.announce();
        self.end_work();
    }

    fn push_event(&self, event: Event) {
        let size = event.size();
        self.outbox.push_always(event, size);
    }

    /// Adds to the end where in its code the guest was, for a person. Only until the end is reported.
    pub(crate) fn note_place(&self, place: &str) {
        let mut verdict = self.verdict.lock();
        if verdict.reported {
            return;
        }
        if let Some(End::Terminated { detail, .. }) = &mut verdict.end {
            if !detail.is_empty() {
                detail.push_str(", ");
            }
            detail.push_str("at ");
            detail.push_str(&harmless_line(place, MAX_PLACE));
        }
    }

    /// The isolate's thread is done with it.
    pub(crate) fn seat_left(self: &Arc<Self>) {
        if self.pass(End::Terminated {
            reason: TerminateReason::Crashed,
            figures: self.figures(),
            detail: "the isolate's thread ended unexpectedly".to_owned(),
        }) {
            log::error!("isolate #{}: its thread ended without a verdict", self.id);
        }
        self.report();
        let mut verdict = self.verdict.lock();
        verdict.seat_left = true;
        if std::mem::take(&mut verdict.abandoned) {
            self.pool.abandoned.fetch_sub(1, Ordering::SeqCst);
        }
        *self.breaker.lock() = None;
        *self.carrier.lock() = None;
        if let Some(post) = &self.post {
            post.left(self.id);
        }
    }

    /// Whether the meter need not look at this isolate again; past `grace` its end is reported even
    /// though its thread goes on.
    pub(crate) fn watch_end(self: &Arc<Self>, grace: Duration) -> bool {
        let overdue = {
            let mut verdict = self.verdict.lock();
            if verdict.seat_left {
                return true;
            }
            let overdue = verdict
                .passed
                .is_some_and(|passed| passed.elapsed() > grace);
            // Of one in a worker the host has no thread: its worker is being killed, which may take a moment.
            let here = self.post.is_some() || self.options.isolation == Isolation::Thread;
            if overdue && here && !verdict.abandoned {
                verdict.abandoned = true;
                self.pool.abandoned.fetch_add(1, Ordering::SeqCst);
                log::warn!(
                    "isolate #{} does not stop: its thread is left to itself",
                    self.id
                );
            }
            overdue
        };
        // Not under the lock: the seat of an isolate in a worker may be dropped here, which takes it, too.
        let breaker = self.breaker.lock().clone();
        if let Some(breaker) = breaker {
            // Again: it may need more than one word, and one that came before the engine entered JavaScript
            // may have been cleared.
            breaker.terminate();
        }
        if overdue {
            self.report();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_worker_busy_after_the_end_leaves_no_work() {
        let hub = Hub::new();
        let options = Arc::new(IsolateOptions::default());
        let pool = Arc::new(Pool::detached());
        let shared = Arc::new(Shared::new(0, options, pool, Arc::clone(&hub), None));
        shared.listen();
        shared.destroy(DestroyReason::Requested);
        // A frame that was on its way says that the isolate is not idle.
        shared.set_work(true);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while hub.poll_events(&mut cx).is_ready() {}
        assert!(!hub.has_work());
    }
}
