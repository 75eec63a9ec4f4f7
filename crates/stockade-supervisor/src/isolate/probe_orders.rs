//! Orders for an isolate's runtime that go past its queue of messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use stockade_protocol::{ProbeId, ProbeOrder};

/// Orders that the isolate's thread has not taken. Only hosts make them, one probe at a time.
#[derive(Default)]
pub(crate) struct ProbeOrders {
    /// Read on every turn of the isolate, which mostly finds nothing.
    waiting: AtomicBool,
    orders: Mutex<VecDeque<(ProbeId, ProbeOrder)>>,
}

impl ProbeOrders {
    pub(crate) fn push(&self, id: ProbeId, order: ProbeOrder) {
        self.orders.lock().push_back((id, order));
        self.waiting.store(true, Ordering::SeqCst);
    }

    pub(crate) fn pop(&self) -> Option<(ProbeId, ProbeOrder)> {
        if !self.is_waiting() {
            return None;
        }
        let mut orders = self.orders.lock();
        let next = orders.pop_front();
        self.waiting.store(!orders.is_empty(), Ordering::SeqCst);
        next
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
}
