//! The host's side of one isolate: what it has sent, what waits for it, and its place among the others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_limits::{
    Admission, ConsoleMode, IoLimiter, IoRates, IsolateOptions, Isolation, LineLimiter,
};
use stockade_protocol::bounds::{MAX_CONSOLE_BYTES_PER_SECOND, MAX_CONSOLE_LINES_PER_SECOND};
use stockade_protocol::{ConsoleLevel, Finding, FromIsolate, ProbeId};
use tokio::sync::oneshot;

use super::calls::PendingCalls;
use super::event::Event;
use super::fair_queue::FairQueue;
use super::probe_slot::ProbeSlot;
use super::registry::Registry;
use crate::end::{DestroyReason, End};
use crate::isolate::Isolate;
use crate::isolate::queue::Queue;
use crate::isolate::refusal::GuestSendError;
use crate::isolate::state::IsolateState;
use crate::isolate::uplink::Uplink;
use crate::limits::watchdog::GRACE;
use crate::start_error::StartError;

/// Bytes of events that may wait in the host where the console is [`ConsoleMode::Whole`]: the guest waits for
/// the reader of its output.
const WHOLE_CONSOLE_BYTES: usize = 4 << 20;

/// An isolate in its host's process.
pub(crate) type HostIsolate = Isolate<HostSide>;

/// Writes messages to an isolate in another process on the thread that sends them.
pub(crate) trait InlineFlush: Send + Sync {
    /// Writes what it can; false when something is left, for which the consumer has to be woken.
    fn flush(&self) -> bool;
}

pub(crate) struct HostSide {
    /// The isolate that this is the side of.
    isolate: Weak<HostIsolate>,
    registry: Arc<Registry<Arc<HostIsolate>>>,
    /// Events that the host has not taken.
    pub(crate) events: Queue<Event>,
    pub(crate) calls: PendingCalls,
    pub(crate) probe: ProbeSlot,
    /// Until the isolate is ready: who waits for that.
    start: Mutex<Option<oneshot::Sender<Result<(), StartError>>>>,
    /// Rates of its messages, where they are limited.
    io: Option<Mutex<IoLimiter>>,
    console: Mutex<LineLimiter>,
    /// Where the isolate is in another process.
    inline_flush: Mutex<Option<Arc<dyn InlineFlush>>>,
    queue: Arc<FairQueue<Arc<HostIsolate>>>,
    /// Nanoseconds of the host's time that events of this isolate have taken, for the queue.
    served: AtomicU64,
    /// It is in the queue, or the host is taking its events.
    queued: AtomicBool,
    /// The host is ready for events; until then they wait here.
    listening: AtomicBool,
    /// Who waits until the host has taken all events up to this one, by its number.
    behind: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
    /// Whether the queue counts it as having work; `None` once it has ended: what its worker said just before
    /// may still arrive.
    counts_as_work: Mutex<Option<bool>>,
}

impl HostSide {
    /// A new isolate, whose events come to `queue`.
    pub(crate) fn isolate(
        id: u32,
        options: Arc<IsolateOptions>,
        registry: Arc<Registry<Arc<HostIsolate>>>,
        queue: Arc<FairQueue<Arc<HostIsolate>>>,
    ) -> Arc<HostIsolate> {
        queue.work_began();
        Arc::new_cyclic(|isolate| HostIsolate {
            uplink: Self {
                isolate: Weak::clone(isolate),
                registry,
                events: match options.console {
                    ConsoleMode::Whole => Queue::with_room(WHOLE_CONSOLE_BYTES),
                    _ => Queue::new(),
                },
                calls: PendingCalls::default(),
                probe: ProbeSlot::new(options.record_cpu),
                start: Mutex::new(None),
                io: io_limiter(&options),
                console: Mutex::new(LineLimiter::new(Instant::now())),
                inline_flush: Mutex::new(None),
                queue,
                served: AtomicU64::new(0),
                queued: AtomicBool::new(false),
                listening: AtomicBool::new(false),
                behind: Mutex::default(),
                counts_as_work: Mutex::new(Some(true)),
            },
            state: IsolateState::new(id, options, GRACE),
        })
    }

    /// What the isolate's start comes to; once.
    pub(crate) fn expect_start(&self) -> oneshot::Receiver<Result<(), StartError>> {
        let (sender, started) = oneshot::channel();
        *self.start.lock() = Some(sender);
        started
    }

    /// The host is ready for events.
    pub(crate) fn listen(&self) {
        self.listening.store(true, Ordering::SeqCst);
        if self.events.load().0 > 0 {
            self.announce();
        }
    }

    /// Has the host take events: there are some.
    pub(crate) fn announce(&self) {
        if self.listening.load(Ordering::SeqCst) {
            self.join_queue(false);
        }
    }

    /// The host has taken events, which took so much of its time.
    pub(crate) fn turn_ended(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let served = self.served.load(Ordering::SeqCst);
        self.served
            .store(served.saturating_add(took), Ordering::SeqCst);
        self.note_taken(self.events.popped());
        self.queued.store(false, Ordering::SeqCst);
        if self.events.has_items() {
            self.join_queue(true);
        }
    }

    /// What resolves when the host has had its turn with the events that wait now; `None` where there are none.
    pub(crate) fn events_taken(&self) -> Option<oneshot::Receiver<()>> {
        if !self.queued.load(Ordering::SeqCst) {
            return None;
        }
        let (sender, taken) = oneshot::channel();
        self.behind.lock().push((self.events.pushed(), sender));
        if !self.queued.load(Ordering::SeqCst) {
            // The turn ended meanwhile, and there were no more events.
            self.note_taken(u64::MAX);
        }
        Some(taken)
    }

    fn note_taken(&self, events: u64) {
        let mut behind = self.behind.lock();
        let mut at = 0;
        while at < behind.len() {
            if behind[at].0 <= events {
                // Nobody may wait any more.
                let _ = behind.swap_remove(at).1.send(());
            } else {
                at += 1;
            }
        }
    }

    fn join_queue(&self, again: bool) {
        // Read before it is written: most events find the isolate in the queue already.
        if !self.queued.load(Ordering::SeqCst)
            && !self.queued.swap(true, Ordering::SeqCst)
            && let Some(isolate) = self.isolate.upgrade()
        {
            self.queue.join(isolate, &self.served, again);
        }
    }

    /// Notes whether the isolate has something to do.
    pub(crate) fn set_work(&self, work: bool) {
        let mut counts = self.counts_as_work.lock();
        if counts.is_some_and(|counted| counted != work) {
            *counts = Some(work);
            if work {
                self.queue.work_began();
            } else {
                self.queue.work_ended();
            }
        }
    }

    /// The isolate never has anything to do again.
    fn end_work(&self) {
        if self.counts_as_work.lock().take() == Some(true) {
            self.queue.work_ended();
        }
    }

    pub(crate) fn inline_flush(&self) -> Option<Arc<dyn InlineFlush>> {
        self.inline_flush.lock().clone()
    }

    pub(crate) fn set_inline_flush(&self, flush: Option<Arc<dyn InlineFlush>>) {
        *self.inline_flush.lock() = flush;
    }

    /// Charges a message against the isolate's rates: how long it has to wait.
    pub(crate) fn charge(&self, message: &FromIsolate) -> Duration {
        match &self.io {
            Some(io) => io.lock().take(1, message.size() as u64, Instant::now()),
            None => Duration::ZERO,
        }
    }

    /// What a message is to the host: one event, with a note before it when console lines were dropped; nothing
    /// for a reply, which goes to its call.
    pub(crate) fn admit(
        &self,
        state: &IsolateState,
        message: FromIsolate,
    ) -> Result<[Option<Event>; 2], GuestSendError> {
        let size = message.size();
        let event = match message {
            FromIsolate::Reply { id, result } => {
                self.calls.settle(id, result);
                return Ok([None, None]);
            }
            FromIsolate::Request { id, method, data } => {
                state.open_request(id, size)?;
                Event::Request { id, method, data }
            }
            FromIsolate::Event { name, data } => Event::Message { name, data },
            FromIsolate::Control { name, data } => Event::Control { name, data },
            FromIsolate::Console { level, text } => {
                return Ok(self.admit_console(state.options.console, level, text));
            }
            FromIsolate::Uncaught(error) => Event::Uncaught(error),
        };
        Ok([None, Some(event)])
    }

    fn admit_console(
        &self,
        mode: ConsoleMode,
        level: ConsoleLevel,
        text: String,
    ) -> [Option<Event>; 2] {
        match mode {
            ConsoleMode::Silent => return [None, None],
            ConsoleMode::Whole => return [None, Some(Event::Console { level, text })],
            ConsoleMode::Event | ConsoleMode::Inherit => {}
        }
        let admission = self.console.lock().admit_bytes(
            text.len(),
            MAX_CONSOLE_LINES_PER_SECOND,
            MAX_CONSOLE_BYTES_PER_SECOND,
            Instant::now(),
        );
        let note = match admission {
            Admission::Dropped { first: false } => return [None, None],
            Admission::Dropped { first: true } => return [Some(dropping()), None],
            Admission::Admitted { dropped: 0 } => None,
            Admission::Admitted { dropped } => Some(Event::dropped_lines(dropped)),
        };
        [note, Some(Event::Console { level, text })]
    }

    /// Puts an event of the guest into the queue, waiting on the guest's thread for room.
    fn put(&self, state: &IsolateState, event: Event) -> Result<(), GuestSendError> {
        let size = event.size();
        let held = |wait: &dyn Fn()| state.activity.held_by_host(wait);
        let put = self.events.push_waiting(event, size, held);
        put.map_err(|_| GuestSendError::Ended)
    }

    fn push_event(&self, event: Event) {
        let size = event.size();
        self.events.push_always(event, size);
    }

    /// Gives the error to the creation of an isolate that ended before it was ready.
    fn start_ended(&self, end: &End) {
        if let Some(start) = self.start.lock().take()
            && let End::Terminated { .. } = end
        {
            let _ = start.send(Err(StartError {
                what: format!("the isolate ended before it was ready: {end}"),
                checked: "how it ended".to_owned(),
                fix: "try again; the log, or that of the kernel (dmesg), says what ended it"
                    .to_owned(),
            }));
        }
    }
}

impl Uplink for HostSide {
    fn is_in_worker(&self) -> bool {
        false
    }

    fn started(&self, _: &IsolateState, result: Result<(), StartError>) {
        if let Some(start) = self.start.lock().take() {
            let _ = start.send(result);
        }
    }

    fn send(&self, state: &IsolateState, message: FromIsolate) -> Result<(), GuestSendError> {
        let wait = self.charge(&message);
        if wait > Duration::ZERO {
            (state.activity).held_by_host(|| state.sleep_unless_ending(wait));
        }
        match message {
            // Most are these; nothing holds them back and nothing comes before them.
            FromIsolate::Event { name, data } => self.put(state, Event::Message { name, data })?,
            other => {
                for event in self.admit(state, other)?.into_iter().flatten() {
                    self.put(state, event)?;
                }
            }
        }
        self.announce();
        Ok(())
    }

    fn found(&self, state: &IsolateState, id: ProbeId, finding: Finding) -> bool {
        let held = |wait: &dyn Fn()| state.activity.held_by_host(wait);
        self.probe.take_waiting(id, finding, held)
    }

    fn set_idle(&self, state: &IsolateState, idle: bool) {
        state.inbox.set_idle(idle, |idle| self.set_work(!idle));
    }

    fn close(&self) {
        self.events.close(false);
        self.probe.end();
    }

    fn report(&self, state: &IsolateState, end: End) {
        self.start_ended(&end);
        let dropped = self.console.lock().take_dropped();
        if dropped > 0 {
            self.push_event(Event::dropped_lines(dropped));
        }
        let destroyed = match end {
            End::Terminated {
                reason,
                usage,
                detail,
            } => {
                tracing::debug!(
                    "isolate #{} was ended: {} ({detail}); {usage}",
                    state.id,
                    reason.name()
                );
                self.push_event(Event::Terminated {
                    reason,
                    usage,
                    detail,
                });
                DestroyReason::Terminated
            }
            End::Destroyed(reason) => reason,
        };
        self.push_event(Event::Destroyed(destroyed));
        self.registry.remove(state.id);
        self.calls.reject_all();
        self.announce();
        self.end_work();
    }

    fn abandon(&self, state: &IsolateState) -> bool {
        // An isolate in a worker has no thread here: its worker is being killed, which may take a moment.
        let here = state.options.isolation == Isolation::Thread;
        if here {
            self.registry.abandon();
            tracing::warn!("isolate #{} does not stop: its thread is leaked", state.id);
        }
        here
    }

    fn stopped_after_all(&self) {
        self.registry.stopped_after_all();
    }

    fn left(&self, _: &IsolateState) {
        self.set_inline_flush(None);
    }
}

/// Says that lines of the console are not kept from here on.
fn dropping() -> Event {
    Event::Console {
        level: ConsoleLevel::Warn,
        text: format!(
            "… console output is being dropped: there is more than {MAX_CONSOLE_LINES_PER_SECOND} lines or {} MiB in a second",
            MAX_CONSOLE_BYTES_PER_SECOND >> 20
        ),
    }
}

/// The limiter of an isolate's messages. A message that exceeds a rate is charged all the same: its sender sleeps until
/// the rate allows the message, and nothing is refused.
fn io_limiter(options: &IsolateOptions) -> Option<Mutex<IoLimiter>> {
    let rates = IoRates {
        operations: options.limits.io_ops.map(Into::into),
        bytes: options.limits.io_bytes,
    };
    (rates != IoRates::default()).then(|| Mutex::new(IoLimiter::new(rates)))
}
