//! Calls of a host that wait for the guest's reply.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stockade_protocol::{CallId, GuestError, Payload};
use tokio::sync::oneshot;

pub(crate) type CallResult = Result<Payload, GuestError>;

#[derive(Default)]
pub(crate) struct PendingCalls {
    waiting: Mutex<HashMap<CallId, oneshot::Sender<CallResult>>>,
    next: AtomicU64,
}

impl PendingCalls {
    pub(crate) fn open(&self) -> PendingCall<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        PendingCall {
            calls: self,
            id,
            reply,
        }
    }

    /// Gives a call its reply; nobody may wait for it any more.
    pub(crate) fn settle(&self, id: CallId, reply: CallResult) {
        if let Some(sender) = self.waiting.lock().remove(&id) {
            let _ = sender.send(reply);
        }
    }

    /// Rejects a call: its reply never comes.
    pub(crate) fn reject(&self, id: CallId) {
        self.waiting.lock().remove(&id);
    }

    pub(crate) fn reject_all(&self) {
        self.waiting.lock().clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// One call; it is forgotten when this is dropped.
pub(crate) struct PendingCall<'a> {
    calls: &'a PendingCalls,
    pub(crate) id: CallId,
    pub(crate) reply: oneshot::Receiver<CallResult>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.calls.reject(self.id);
    }
}
