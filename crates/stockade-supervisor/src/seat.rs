//! The end of an isolate on the side that runs the guest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_policy::IsolateOptions;
use stockade_protocol::bounds::MAX_PENDING_REQUESTS;
use stockade_protocol::{FromIsolate, ToIsolate};

use crate::end::TerminateReason;
use crate::event::Event;
use crate::meter::Meter;
use crate::shared::Shared;
use crate::wall::{Breaker, StartError};

/// The isolate is ending: nothing more is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The isolate has a verdict.
    #[error("the isolate has ended")]
    Ended,
    /// The guest has [`MAX_PENDING_REQUESTS`] requests open.
    #[error("too many requests wait for an answer (limit {MAX_PENDING_REQUESTS})")]
    TooManyRequests,
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
        if let Some(sender) = self.shared.started.lock().take() {
            let _ = sender.send(result);
        }
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
        self.shared.inbox.poll_ready(cx)
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
        self.shared.inbox.pop()
    }

    /// Whether messages wait.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.shared.inbox.load().0 > 0
    }

    /// A message of this size needs no place in the queue any more.
    pub fn done(&self, size: usize) {
        self.shared.inbox.release(size);
    }

    /// Notes whether the isolate has anything to do but wait for messages. A host may end by itself
    /// when none of its isolates has.
    pub fn set_idle(&self, idle: bool) {
        self.shared
            .inbox
            .set_idle(idle, |idle| self.shared.set_work(!idle));
    }

    /// Sends a message to the host, waiting on this thread while the queue is full.
    ///
    /// # Errors
    /// When the isolate is ending, or has too many open requests.
    pub fn send(&self, message: FromIsolate) -> Result<(), Stopped> {
        let shared = &self.shared;
        let event = match message {
            FromIsolate::Reply { id, result } => {
                if let Some(sender) = shared.calls.lock().remove(&id) {
                    let _ = sender.send(result);
                }
                return Ok(());
            }
            FromIsolate::Request { id, method, data } => {
                if shared.requests.fetch_add(1, Ordering::SeqCst) >= MAX_PENDING_REQUESTS {
                    shared.requests.fetch_sub(1, Ordering::SeqCst);
                    return Err(Stopped::TooManyRequests);
                }
                Event::Request { id, method, data }
            }
            FromIsolate::Event { name, data } => Event::Message { name, data },
            FromIsolate::Control { name, data } => Event::Control { name, data },
            FromIsolate::Console { level, text } => Event::Console { level, text },
            FromIsolate::Uncaught(error) => Event::Uncaught(error),
        };
        let size = event.size();
        if shared.outbox.has_room(size) {
            shared.outbox.push_waiting(event, size)
        } else {
            shared
                .activity
                .held_by_host(|| shared.outbox.push_waiting(event, size))
        }
        .map_err(|_| Stopped::Ended)?;
        shared.announce();
        Ok(())
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

    /// What a thread calls that does blocking work for the isolate: its CPU time counts from then on.
    #[must_use]
    pub fn helper_mark(&self) -> Box<dyn Fn() + Send> {
        let shared = Arc::downgrade(&self.shared);
        Box::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.activity.set_helper();
            }
        })
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

    /// Whether the isolate has a verdict: leave JavaScript and drop the seat.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }
}
