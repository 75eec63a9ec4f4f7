//! An isolate as whatever runs its guest sees it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_limits::IsolateOptions;
use stockade_protocol::{Finding, FromIsolate, ProbeId, ProbeOrder, ToIsolate};

use crate::end::TerminateReason;
use crate::guest::debugging::DebugExit;
use crate::isolate::Isolate;
use crate::isolate::debug_entrance::DebugEntrance;
use crate::isolate::refusal::GuestSendError;
use crate::isolate::state::IsolateState;
use crate::isolate::uplink::Uplink;
use crate::limits::cpu_clock::CpuClock;
use crate::limits::interrupt::InterruptHandle;
use crate::limits::watchdog::Watchdog;
use crate::start_error::StartError;

/// An isolate as whatever runs its guest sees it. Dropping it means that everything of the isolate is gone.
pub struct GuestContext {
    isolate: Arc<Isolate<dyn Uplink>>,
}

/// The clocks of one isolate, for the debugger. All methods are for the isolate's own thread.
#[derive(Clone)]
pub struct Clocks(Arc<Isolate<dyn Uplink>>);

impl Clocks {
    /// A debugger holds the isolate: neither clock runs until it lets go, which it must say with
    /// [`Clocks::restart`].
    pub fn stop(&self) {
        self.0.state.activity.stop_clocks();
    }

    /// A debugger lets the isolate go; with the last one the clocks go on where they were.
    pub fn restart(&self) {
        if self.0.state.activity.restart_clocks() {
            Watchdog::wake();
        }
    }
}

/// The limits of one isolate, for the thread that does blocking work for it.
#[derive(Clone)]
pub struct HelperMark(Weak<Isolate<dyn Uplink>>);

impl HelperMark {
    /// The CPU time of the thread with this clock counts from now on. `ask` is called on any thread, and has the helper
    /// call [`Self::is_idle`] once it has done what it was given by then.
    pub fn works(&self, clock: CpuClock, ask: Box<dyn Fn() + Send>) {
        if let Some(isolate) = self.0.upgrade() {
            isolate.state.activity.set_helper(clock, ask);
        }
    }

    /// On that thread: it has nothing to do.
    pub fn is_idle(&self) {
        if let Some(isolate) = self.0.upgrade() {
            isolate.state.activity.helper_is_idle();
        }
    }
}

impl Drop for GuestContext {
    fn drop(&mut self) {
        self.isolate.left();
    }
}

impl GuestContext {
    pub(crate) fn new(isolate: Arc<Isolate<dyn Uplink>>) -> Self {
        Self { isolate }
    }

    fn state(&self) -> &IsolateState {
        &self.isolate.state
    }

    fn uplink(&self) -> &dyn Uplink {
        &self.isolate.uplink
    }

    /// The isolate's number within its sandbox, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.state().id
    }

    /// What the isolate was created with.
    #[must_use]
    pub fn options(&self) -> &Arc<IsolateOptions> {
        &self.state().options
    }

    /// Reports that the isolate is ready, or why it cannot be.
    pub fn started(&self, result: Result<(), StartError>) {
        self.uplink().started(self.state(), result);
    }

    /// Gives the supervisor the means to stop the guest.
    pub fn set_interrupt_handle(&self, handle: Arc<dyn InterruptHandle>) {
        if self.is_ending() {
            handle.terminate();
        }
        self.state().set_interrupt_handle(Some(handle));
    }

    /// Ready when a message or an order waits, or the isolate is ending.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ending() {
            return Poll::Ready(());
        }
        self.poll_arrivals(cx);
        let ready = self.state().inbox.poll_ready(cx);
        // After the task is registered: an order that comes now wakes it.
        match self.state().probes.is_waiting() {
            true => Poll::Ready(()),
            false => ready,
        }
    }

    /// Takes what has arrived, where this thread waits for the socket itself.
    pub fn poll_arrivals(&self, cx: &mut Context<'_>) {
        self.uplink().poll_arrivals(cx);
    }

    /// Reports to the host how the isolate ended, if it has: nothing of the guest runs any more.
    pub fn report(&self) {
        self.isolate.report();
    }

    /// The next message and its size, for [`GuestContext::done`].
    #[must_use]
    pub fn try_recv(&self) -> Option<(ToIsolate, usize)> {
        let (message, size) = self.state().inbox.pop()?;
        self.uplink().seen(self.state(), size);
        Some((message, size))
    }

    /// Whether messages wait.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.uplink().take_arrivals();
        self.state().inbox.load().0 > 0
    }

    /// A message of this size needs no place in the queue any more.
    pub fn done(&self, size: usize) {
        self.state().inbox.release(size);
        self.uplink().done(self.state(), size);
    }

    /// Notes whether the isolate has anything to do but wait for messages. A host may end by itself
    /// when none of its isolates has.
    pub fn set_idle(&self, idle: bool) {
        self.uplink().set_idle(self.state(), idle);
    }

    /// Sends a message to the host, waiting on this thread while the queue is full or the isolate is
    /// above its rates.
    ///
    /// # Errors
    /// When the isolate is ending, or has too many open requests.
    pub fn send(&self, message: FromIsolate) -> Result<(), GuestSendError> {
        if self.is_ending() {
            return Err(GuestSendError::Ended);
        }
        self.uplink().send(self.state(), message)
    }

    /// Sends a control message with one binary part, as [`GuestContext::send`]. To a host in another process the part
    /// goes without a copy in this one.
    ///
    /// # Errors
    /// When the isolate is ending.
    pub fn send_part(&self, name: &str, json: String, part: &[u8]) -> Result<(), GuestSendError> {
        if self.is_ending() {
            return Err(GuestSendError::Ended);
        }
        self.uplink().send_part(self.state(), name, json, part)
    }

    /// What the isolate's runtime is to do for a probe, if there is anything.
    #[must_use]
    pub fn next_order(&self) -> Option<(ProbeId, ProbeOrder)> {
        self.state().probes.pop()
    }

    /// Sends what a probe has found, waiting on this thread while the host does not take it; false if nobody wants more
    /// of it.
    pub fn found(&self, id: ProbeId, finding: Finding) -> bool {
        !self.is_ending() && self.uplink().found(self.state(), id, finding)
    }

    /// Lets debuggers into the isolate.
    pub fn set_debug_entrance(&self, entrance: Arc<dyn DebugEntrance>) {
        self.state().set_debugger(Some(entrance));
    }

    /// The way to a debugger.
    #[must_use]
    pub fn debug_exit(&self) -> DebugExit {
        DebugExit(Arc::clone(&self.isolate))
    }

    /// While `sampled`, the watchdog interrupts the guest at each of its ticks, about 1,000 a second.
    pub fn set_sampled(&self, sampled: bool) {
        self.state().activity.set_sampled(sampled);
    }

    /// Whether an interrupt that is served now is to take a sample of what runs.
    #[must_use]
    pub fn is_sample_due(&self) -> bool {
        self.state().activity.is_sample_of_now()
    }

    /// Lets the host have what was sent until now, where messages are gathered.
    pub fn flush(&self) {
        self.uplink().flush();
    }

    /// Begins an activation: from here on the clocks run. Waits when the CPU share is used up.
    pub fn begin(&self) {
        self.state().activity.begin();
        Watchdog::wake();
    }

    /// Ends the activation and gives the CPU time it used.
    pub fn end(&self) -> Duration {
        self.state().activity.end()
    }

    /// The limits of the isolate for a thread that does blocking work for it.
    #[must_use]
    pub fn helper_mark(&self) -> HelperMark {
        HelperMark(Arc::downgrade(&self.isolate))
    }

    /// Whether the host is another process.
    #[must_use]
    pub fn is_in_worker(&self) -> bool {
        self.uplink().is_in_worker()
    }

    /// Stops the clocks while debuggers hold the isolate.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        Clocks(Arc::clone(&self.isolate))
    }

    /// Called on the isolate's thread after [`InterruptHandle::interrupt`]: waits while other isolates have the
    /// CPU slots.
    pub fn checkpoint(&self) {
        self.state().activity.wait_for_slot();
    }

    /// Notes how much memory the isolate holds, in bytes.
    pub fn note_memory(&self, bytes: u64) {
        self.state().note_memory(bytes);
    }

    /// Ends the isolate for using more memory than its limit.
    pub fn memory_exceeded(&self) {
        let limit = self.options().limits.memory.map_or(0, |bytes| bytes >> 20);
        self.terminate(
            TerminateReason::MemoryLimit,
            format!("memoryLimitMb {limit}"),
        );
    }

    /// Ends the isolate; the first reason stands.
    pub fn terminate(&self, reason: TerminateReason, detail: impl Into<String>) {
        self.isolate.terminate(reason, detail.into());
    }

    /// Adds to the detail of the end where in its code the guest was; before [`GuestContext::report`].
    pub fn note_place(&self, place: &str) {
        self.state().termination.note_place(place);
    }

    /// Whether the isolate is ending: leave JavaScript and drop the context.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.state().is_ending()
    }
}
