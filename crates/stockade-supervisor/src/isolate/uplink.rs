//! The way from a guest to its host.

use std::task::Context;

use stockade_protocol::{Finding, FromIsolate, Payload, ProbeId};

use super::refusal::GuestSendError;
use super::state::IsolateState;
use crate::end::End;
use crate::start_error::StartError;

/// The way from a guest to its host: queues where the host is in this process, a socket where it is not.
pub(crate) trait Uplink: Send + Sync + 'static {
    /// Whether the host is another process.
    fn is_in_worker(&self) -> bool;

    /// Reports that the isolate is ready, or why it cannot be.
    fn started(&self, state: &IsolateState, result: Result<(), StartError>);

    /// Sends a message, waiting on the guest's thread while the host does not take it.
    fn send(&self, state: &IsolateState, message: FromIsolate) -> Result<(), GuestSendError>;

    /// Sends a control message with one binary part, as [`Uplink::send`].
    fn send_part(
        &self,
        state: &IsolateState,
        name: &str,
        json: String,
        part: &[u8],
    ) -> Result<(), GuestSendError> {
        let data = Payload {
            json,
            bytes: vec![part.to_vec()],
            marked: true,
        };
        let name = name.to_owned();
        self.send(state, FromIsolate::Control { name, data })
    }

    /// Sends what a probe has found, waiting on the guest's thread while the host does not take it; false if nobody wants
    /// more of it.
    fn found(&self, state: &IsolateState, id: ProbeId, finding: Finding) -> bool;

    /// As [`Uplink::found`], from any thread and without waiting.
    fn found_at_once(&self, _state: &IsolateState, _id: ProbeId, _finding: Finding) {}

    /// Writes what was gathered.
    fn flush(&self) {}

    /// Writes what was gathered and has waited for long, and looks for messages where the isolate is too busy to;
    /// called by the watchdog, and never waits.
    fn flush_stale(&self, _state: &IsolateState) {}

    /// Puts messages of the host that have arrived into the inbox, and registers the task for later ones.
    fn poll_arrivals(&self, _cx: &mut Context<'_>) {}

    /// As [`Uplink::poll_arrivals`], without registering.
    fn take_arrivals(&self) {}

    /// The guest handles a message of this size, which it may keep.
    fn seen(&self, _state: &IsolateState, _size: usize) {}

    /// The guest is done with a message of this size.
    fn done(&self, _state: &IsolateState, _size: usize) {}

    /// The guest has nothing to do but wait for messages, or has.
    fn set_idle(&self, state: &IsolateState, idle: bool);

    /// The isolate is ending: a guest that waits in [`Uplink::send`] is let go.
    fn close(&self) {}

    /// Reports how the isolate ended; called once.
    fn report(&self, state: &IsolateState, end: End);

    /// Counts an isolate whose thread does not stop; true if it did.
    fn abandon(&self, _state: &IsolateState) -> bool {
        false
    }

    /// Nothing of the isolate runs any more; `abandoned`, if [`Uplink::abandon`] had counted it.
    fn left(&self, state: &IsolateState);

    /// Takes [`Uplink::abandon`] back.
    fn stopped_after_all(&self) {}
}
