//! The end of an isolate on the side that runs the guest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_policy::{ConsoleMode, IsolateOptions};
use stockade_protocol::bounds::{
    MAX_CONSOLE_BYTES_PER_SECOND, MAX_CONSOLE_LINES_PER_SECOND, MAX_OPEN_REQUEST_BYTES,
};
use stockade_protocol::{ConsoleLevel, FromIsolate, RequestId, ToIsolate};

use crate::console_rate::Admit;
use crate::cpu_clock::CpuClock;
use crate::end::{Figures, TerminateReason};
use crate::event::Event;
use crate::meter::Meter;
use crate::shared::{Carrier, Shared};
use crate::wall::{Breaker, StartError};

/// The isolate is ending: nothing more is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The isolate has a verdict.
    #[error("the isolate has ended")]
    Ended,
    /// The guest has as many requests open as `maxPendingRequests` allows.
    #[error("too many requests wait for an answer (limit {limit})")]
    TooManyRequests {
        /// How many may be open.
        limit: usize,
    },
    /// The guest's open requests and this one hold too much together.
    #[error(
        "a request of {bytes} bytes does not fit: {open} bytes of requests wait for an answer, and at most {MAX_OPEN_REQUEST_BYTES} may"
    )]
    RequestsTooLarge {
        /// Of the new one.
        bytes: usize,
        /// Of those that are open.
        open: usize,
    },
    /// A request has the number of one that is open; no honest runtime does that.
    #[error("the request {id} is open already")]
    RequestTwice {
        /// Its number.
        id: RequestId,
    },
}

/// Held by whatever runs the isolate. Dropping it means that everything of the isolate is gone.
pub struct Seat {
    pub(crate) shared: Arc<Shared>,
}

/// The clocks of one isolate, for the debugger. All methods are for the isolate's own thread.
#[derive(Clone)]
pub struct Clocks(Arc<Shared>);

impl Clocks {
    /// A debugger holds the isolate: neither clock runs until it lets go, which it must say with
    /// [`Clocks::restart`].
    pub fn stop(&self) {
        self.0.activity.stop_clocks();
    }

    /// A debugger lets the isolate go; with the last one the clocks go on where they were.
    pub fn restart(&self) {
        if self.0.activity.restart_clocks() {
            Meter::wake();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.activity.end();
        self.shared.seat_left();
    }
}

impl Seat {
    /// The isolate's number within its sandbox, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.shared.id
    }

    /// What the isolate was created with.
    #[must_use]
    pub fn options(&self) -> &Arc<IsolateOptions> {
        &self.shared.options
    }

    /// Says that the isolate is ready, or why it cannot be.
    pub fn started(&self, result: Result<(), StartError>) {
        if let Some(post) = &self.shared.post {
            return post.started(self.shared.id, result);
        }
        if let Some(sender) = self.shared.started.lock().take() {
            let _ = sender.send(result);
        }
    }

    /// Says why the isolate cannot be started, and ends it.
    pub(crate) fn start_failed(&self, error: StartError) {
        self.started(Err(error));
        self.convict(TerminateReason::Crashed, "it could not be started");
    }

    /// Gives the supervisor the means to stop the guest.
    pub fn set_breaker(&self, breaker: Arc<dyn Breaker>) {
        if self.shared.is_ending() {
            breaker.terminate();
        }
        *self.shared.breaker.lock() = Some(breaker);
    }

    /// Ready when a message waits or the isolate is ending.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.is_ending() {
            return Poll::Ready(());
        }
        self.poll_arrivals(cx);
        self.shared.inbox.poll_ready(cx)
    }

    /// Takes what has arrived, where this thread waits for the socket itself.
    pub fn poll_arrivals(&self, cx: &mut Context<'_>) {
        if let Some(post) = &self.shared.post {
            post.poll_arrivals(cx);
        }
    }

    /// Tells the host how the isolate ended, if it has: nothing of the guest runs any more.
    pub fn report(&self) {
        if self.shared.is_ending() {
            self.shared.report();
        }
    }

    /// The next message and its size, for [`Seat::done`].
    #[must_use]
    pub fn try_recv(&self) -> Option<(ToIsolate, usize)> {
        let (message, size) = self.shared.inbox.pop()?;
        if let Some(post) = &self.shared.post {
            post.sees(&self.shared, size);
        }
        Some((message, size))
    }

    /// Whether messages wait.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        if let Some(post) = &self.shared.post {
            post.look_for_arrivals();
        }
        self.shared.inbox.load().0 > 0
    }

    /// A message of this size needs no place in the queue any more.
    pub fn done(&self, size: usize) {
        self.shared.inbox.release(size);
        if let Some(post) = &self.shared.post {
            post.taken(&self.shared, size);
        }
    }

    /// Messages of these sizes together need no place any more; in the host's process.
    pub(crate) fn done_with(&self, messages: usize, bytes: usize) {
        self.shared.inbox.release_many(messages, bytes);
    }

    /// Notes whether the isolate has anything to do but wait for messages. A host may end by itself
    /// when none of its isolates has.
    pub fn set_idle(&self, idle: bool) {
        self.shared
            .inbox
            .set_idle(idle, |idle| self.shared.set_work(!idle));
        if let Some(post) = &self.shared.post {
            post.rests(&self.shared, idle);
        }
    }

    /// Sends a message to the host, waiting on this thread while the queue is full or the isolate is
    /// above its rates.
    ///
    /// # Errors
    /// When the isolate is ending, or has too many open requests.
    pub fn send(&self, message: FromIsolate) -> Result<(), Stopped> {
        let shared = &self.shared;
        if shared.is_ending() {
            return Err(Stopped::Ended);
        }
        if let Some(post) = &shared.post {
            if let FromIsolate::Request { id, .. } = &message {
                self.count_request(*id, message.size())?;
            }
            return post.send(shared, message);
        }
        let wait = self.charge(&message);
        if wait > Duration::ZERO {
            shared
                .activity
                .held_by_host(|| shared.sleep_unless_ending(wait));
        }
        match message {
            // Most are these; nothing holds them back and nothing comes before them.
            FromIsolate::Event { name, data } => self.put(Event::Message { name, data })?,
            other => {
                for event in self.admit(other)?.into_iter().flatten() {
                    self.put(event)?;
                }
            }
        }
        shared.announce();
        Ok(())
    }

    /// Puts an event into the host's queue, waiting on this thread for room.
    fn put(&self, event: Event) -> Result<(), Stopped> {
        let size = event.size();
        let held = |wait: &dyn Fn()| self.shared.activity.held_by_host(wait);
        let put = self.shared.outbox.push_waiting(event, size, held);
        put.map_err(|_| Stopped::Ended)
    }

    /// Charges a message against the isolate's rates: how long it has to wait.
    pub(crate) fn charge(&self, message: &FromIsolate) -> Duration {
        match &self.shared.io {
            Some(io) => io.take(message.size() as u64),
            None => Duration::ZERO,
        }
    }

    /// What the host hears of a message: one event, with a note before it when console lines were
    /// dropped; nothing of a reply, which goes to its call.
    pub(crate) fn admit(&self, message: FromIsolate) -> Result<[Option<Event>; 2], Stopped> {
        let shared = &self.shared;
        let size = message.size();
        let event = match message {
            FromIsolate::Reply { id, result } => {
                if let Some(sender) = shared.calls.lock().remove(&id) {
                    let _ = sender.send(result);
                }
                return Ok([None, None]);
            }
            FromIsolate::Request { id, method, data } => {
                self.count_request(id, size)?;
                Event::Request { id, method, data }
            }
            FromIsolate::Event { name, data } => Event::Message { name, data },
            FromIsolate::Control { name, data } => Event::Control { name, data },
            FromIsolate::Console { level, text } => {
                match shared.options.console {
                    ConsoleMode::Silent => return Ok([None, None]),
                    ConsoleMode::Whole => return Ok([None, Some(Event::Console { level, text })]),
                    ConsoleMode::Event | ConsoleMode::Inherit => {}
                }
                let note = match shared.console.lock().admit(text.len()) {
                    Admit::Drop => return Ok([None, None]),
                    Admit::FirstDropped => return Ok([Some(dropping()), None]),
                    Admit::Line => None,
                    Admit::After(dropped) => Some(Event::dropped_lines(dropped)),
                };
                return Ok([note, Some(Event::Console { level, text })]);
            }
            FromIsolate::Uncaught(error) => Event::Uncaught(error),
        };
        Ok([None, Some(event)])
    }

    /// Puts an event into the host's queue if there is room for it, else gives it back.
    pub(crate) fn try_push(&self, event: Event) -> Result<(), Box<Event>> {
        let size = event.size();
        self.shared.outbox.try_push(event, size).map_err(Box::new)?;
        self.shared.announce();
        Ok(())
    }

    /// Puts an event into the host's queue whether there is room or not, for what a worker that has ended
    /// left behind.
    pub(crate) fn push_last(&self, event: Event) {
        // Nothing comes behind the events of the end.
        if !self.shared.is_ending() {
            let size = event.size();
            self.shared.outbox.push_always(event, size);
            self.shared.announce();
        }
    }

    /// Ready when at most half of the host's queue is in use.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.outbox.poll_drained(cx)
    }

    /// Has messages to the isolate taken on the thread that sends them.
    pub(crate) fn set_carrier(&self, carrier: Arc<dyn Carrier>) {
        *self.shared.carrier.lock() = Some(carrier);
    }

    /// Bytes that the isolate holds, when last measured.
    pub(crate) fn memory(&self) -> u64 {
        self.shared.memory.load(Ordering::Relaxed)
    }

    /// As [`Seat::convict`], with figures that are known already.
    pub(crate) fn convict_with(&self, reason: TerminateReason, detail: String, figures: Figures) {
        self.shared.convict_with(reason, detail, figures);
    }

    fn count_request(&self, id: RequestId, bytes: usize) -> Result<(), Stopped> {
        let limit = self.shared.options.limits.pending_requests as usize;
        self.shared.requests.lock().open(id, bytes, limit)
    }

    /// Lets the host have what was sent until now, where messages are gathered.
    pub fn flush(&self) {
        if let Some(post) = &self.shared.post {
            post.flush_gathered();
        }
    }

    /// Begins an activation: from here on the clocks run. Waits when the CPU share is used up.
    pub fn begin(&self) {
        self.shared.activity.begin();
        Meter::wake();
    }

    /// Ends the activation and gives the CPU time it used.
    pub fn end(&self) -> Duration {
        self.shared.activity.end()
    }

    /// Called with the clock of a thread that does blocking work for the isolate: its CPU time counts
    /// from then on.
    #[must_use]
    pub fn helper_mark(&self) -> Box<dyn Fn(CpuClock) + Send> {
        let shared = Arc::downgrade(&self.shared);
        Box::new(move |clock| {
            if let Some(shared) = shared.upgrade() {
                shared.activity.set_helper(clock);
            }
        })
    }

    /// Whether the host is another process.
    #[must_use]
    pub fn is_in_worker(&self) -> bool {
        self.shared.post.is_some()
    }

    /// Stops the clocks while debuggers hold the isolate.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        Clocks(Arc::clone(&self.shared))
    }

    /// Called on the isolate's thread after [`Breaker::interrupt`]: waits while others have their turn.
    pub fn checkpoint(&self) {
        self.shared.activity.wait_for_turn();
    }

    /// Notes how much memory the isolate holds, in bytes.
    pub fn note_memory(&self, bytes: u64) {
        self.shared.memory.store(bytes, Ordering::Relaxed);
    }

    /// Ends the isolate for using more memory than its limit.
    pub fn memory_exceeded(&self) {
        let limit = self
            .shared
            .options
            .limits
            .memory
            .map_or(0, |bytes| bytes >> 20);
        self.convict(
            TerminateReason::MemoryLimit,
            format!("memoryLimitMb {limit}"),
        );
    }

    /// Ends the isolate; the first verdict stands.
    pub fn convict(&self, reason: TerminateReason, detail: impl Into<String>) {
        self.shared.convict(reason, detail.into());
    }

    /// Says where in its code the guest was when it was ended; before [`Seat::report`].
    pub fn note_place(&self, place: &str) {
        self.shared.note_place(place);
    }

    /// Whether the isolate has a verdict: leave JavaScript and drop the seat.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.shared.is_ending()
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
