//! The host's view of an isolate that runs in another process.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_limits::IsolateOptions;
use stockade_protocol::{Finding, FromIsolate, ProbeId, ToIsolate};

use super::event::Event;
use super::probe_slot::Found;
use super::side::{HostIsolate, InlineFlush};
use crate::end::{ResourceUsage, TerminateReason};
use crate::guest::context::GuestContext;
use crate::isolate::refusal::GuestSendError;
use crate::isolate::uplink::Uplink as _;
use crate::limits::interrupt::InterruptHandle;
use crate::start_error::StartError;

/// Stands in the host's process for a guest in another one: takes the messages to it, and puts in what it sends.
/// Never waits. Dropping it means that nothing of the isolate runs any more.
pub(crate) struct RemoteGuest {
    isolate: Arc<HostIsolate>,
    /// Dropped with this.
    guest: GuestContext,
}

impl RemoteGuest {
    pub(crate) fn new(isolate: Arc<HostIsolate>, guest: GuestContext) -> Self {
        Self { isolate, guest }
    }

    pub(crate) fn id(&self) -> u32 {
        self.isolate.state.id
    }

    pub(crate) fn options(&self) -> &IsolateOptions {
        &self.isolate.state.options
    }

    pub(crate) fn set_interrupt_handle(&self, handle: Arc<dyn InterruptHandle>) {
        self.guest.set_interrupt_handle(handle);
    }

    /// Has messages to the guest written on the thread that sends them.
    pub(crate) fn set_inline_flush(&self, flush: Arc<dyn InlineFlush>) {
        self.isolate.uplink.set_inline_flush(Some(flush));
    }

    /// Reports that the isolate is ready, or why it cannot be.
    pub(crate) fn started(&self, result: Result<(), StartError>) {
        self.guest.started(result);
    }

    /// Reports why the isolate cannot be started, and ends it.
    pub(crate) fn start_failed(&self, error: StartError) {
        self.started(Err(error));
        self.terminate(TerminateReason::Crashed, "it could not be started");
    }

    /// Ends the isolate; the first reason stands.
    pub(crate) fn terminate(&self, reason: TerminateReason, detail: impl Into<String>) {
        self.isolate.terminate(reason, detail.into());
    }

    /// As [`RemoteGuest::terminate`], with a usage that is known already.
    pub(crate) fn terminate_with(
        &self,
        reason: TerminateReason,
        detail: String,
        usage: ResourceUsage,
    ) {
        self.isolate.terminate_with(reason, detail, usage);
    }

    /// Ends the isolate for using more memory than its limit.
    pub(crate) fn memory_exceeded(&self) {
        self.guest.memory_exceeded();
    }

    /// Bytes that the isolate holds, when last measured.
    pub(crate) fn memory(&self) -> u64 {
        self.isolate.state.memory()
    }

    pub(crate) fn note_memory(&self, bytes: u64) {
        self.isolate.state.note_memory(bytes);
    }

    /// Notes how much CPU time the isolate has used over its life.
    pub(crate) fn note_cpu(&self, cpu: Duration) {
        self.isolate.state.note_cpu(cpu);
    }

    /// Notes how much memory the kernel counted for its worker at most.
    pub(crate) fn note_peak(&self, bytes: u64) {
        self.isolate.state.note_peak(bytes);
    }

    /// Registers the task for messages to the guest.
    pub(crate) fn watch_messages(&self, cx: &mut Context<'_>) {
        let _ = self.isolate.state.inbox.poll_ready(cx);
    }

    /// The next message to the guest and its size, for [`RemoteGuest::done`].
    pub(crate) fn next_message(&self) -> Option<(ToIsolate, usize)> {
        self.isolate.state.inbox.pop()
    }

    /// Messages of these sizes together need no place any more.
    pub(crate) fn done(&self, messages: usize, bytes: usize) {
        self.isolate.state.inbox.release_many(messages, bytes);
    }

    /// Notes whether the guest has anything to do but wait for messages.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.isolate.uplink.set_idle(&self.isolate.state, idle);
    }

    /// Charges a message against the isolate's rates: how long its worker has to wait.
    pub(crate) fn charge(&self, message: &FromIsolate) -> Duration {
        self.isolate.uplink.charge(message)
    }

    /// What a message of the guest is to the host.
    pub(crate) fn admit(&self, message: FromIsolate) -> Result<[Option<Event>; 2], GuestSendError> {
        self.isolate.uplink.admit(&self.isolate.state, message)
    }

    /// Puts an event into the host's queue if there is room for it, else gives it back.
    pub(crate) fn try_push(&self, event: Event) -> Result<(), Box<Event>> {
        let host = &self.isolate.uplink;
        let size = event.size();
        host.events.try_push(event, size).map_err(Box::new)?;
        host.announce();
        Ok(())
    }

    /// Puts an event into the host's queue whether there is room or not, for what a worker that has ended
    /// left behind.
    pub(crate) fn push_last(&self, event: Event) {
        // Nothing comes behind the events of the end.
        if !self.isolate.state.is_ending() {
            let size = event.size();
            self.isolate.uplink.events.push_always(event, size);
            self.isolate.uplink.announce();
        }
    }

    /// Takes what a probe has found, gives it back where there is no room, or says that there never was such a probe.
    pub(crate) fn found(&self, id: ProbeId, finding: Finding) -> Found {
        self.isolate.uplink.probe.take(id, finding)
    }

    /// Ready when what the probe has found may fit.
    pub(crate) fn poll_found(&self, id: ProbeId, cx: &mut Context<'_>) -> Poll<()> {
        self.isolate.uplink.probe.poll_room(id, cx)
    }

    /// Ready when at most half of the host's queue is in use.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.isolate.uplink.events.poll_drained(cx)
    }
}
