//! The way of an isolate of a worker to its debugger.

use std::sync::Arc;

use stockade_protocol::bounds::MAX_FINDING_BYTES;
use stockade_protocol::{Finding, ProbeId};

use crate::isolate::Isolate;
use crate::isolate::uplink::Uplink;

/// The way of an isolate to its debugger.
#[derive(Clone)]
pub struct DebugExit(pub(crate) Arc<Isolate<dyn Uplink>>);

impl DebugExit {
    /// Sends a message at once, on the isolate's thread; false if the debugger is gone.
    #[must_use]
    pub fn send(&self, id: ProbeId, text: &str) -> bool {
        let found = |finding| self.0.uplink.found(&self.0.state, id, finding);
        text.as_bytes()
            .chunks(MAX_FINDING_BYTES)
            .all(|piece| found(Finding::Piece(piece.to_vec())))
            && found(Finding::Message)
    }

    /// Ends the session, from any thread.
    pub fn end(&self, id: ProbeId) {
        let Isolate { state, uplink } = &*self.0;
        uplink.found_at_once(state, id, Finding::Done);
    }
}
