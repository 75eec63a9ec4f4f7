//! Where one consumer hears many isolates, in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;

use crate::event::Event;
use crate::handle::Handle;
use crate::shared::Shared;

/// Events taken from one isolate before it is the next one's turn: a flooding isolate delays the
/// others by this many.
const TURN: usize = 64;

/// Collects the events of the isolates that were created with it, for one consumer.
#[derive(Default)]
pub struct Hub {
    ready: Mutex<VecDeque<Arc<Shared>>>,
    waker: AtomicWaker,
    /// Isolates that are not idle.
    working: AtomicUsize,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn announce(&self, shared: Arc<Shared>) {
        self.ready.lock().push_back(shared);
        self.waker.wake();
    }

    pub(crate) fn work_began(&self) {
        self.working.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn work_ended(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.waker.wake();
        }
    }

    /// Whether any isolate has something to do: a message to handle, code running, a timer, or an
    /// event that nobody has taken yet.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.working.load(Ordering::SeqCst) > 0 || !self.ready.lock().is_empty()
    }

    /// The next events of one isolate, oldest first. Wakes the task when there are more, and when the
    /// last isolate becomes idle.
    pub fn poll_events(&self, cx: &mut Context<'_>) -> Poll<(Handle, Vec<Event>)> {
        self.waker.register(cx.waker());
        loop {
            let Some(shared) = self.ready.lock().pop_front() else {
                return Poll::Pending;
            };
            let events = shared.outbox.take(TURN);
            shared.heard(self);
            if !events.is_empty() {
                return Poll::Ready((Handle::new(shared), events));
            }
        }
    }

    /// The next events of one isolate.
    pub async fn events(&self) -> (Handle, Vec<Event>) {
        std::future::poll_fn(|cx| self.poll_events(cx)).await
    }
}
