//! The isolates of one supervisor that live, and how many have a thread that does not stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

pub(crate) struct Registry<T> {
    /// `None` once the supervisor is shut down.
    live: Mutex<Option<HashMap<u32, T>>>,
    abandoned: AtomicUsize,
}

impl<T> Registry<T> {
    pub(crate) fn new() -> Self {
        Self {
            live: Mutex::new(Some(HashMap::new())),
            abandoned: AtomicUsize::new(0),
        }
    }

    /// Adds an isolate; false once the supervisor is shut down.
    pub(crate) fn insert(&self, id: u32, isolate: T) -> bool {
        match self.live.lock().as_mut() {
            Some(live) => {
                live.insert(id, isolate);
                true
            }
            None => false,
        }
    }

    pub(crate) fn remove(&self, id: u32) {
        let removed = self.live.lock().as_mut().and_then(|live| live.remove(&id));
        // Not under the lock.
        drop(removed);
    }

    pub(crate) fn count(&self) -> usize {
        self.live.lock().as_ref().map_or(0, HashMap::len)
    }

    /// Gives every isolate that lives; none can be added any more.
    pub(crate) fn close(&self) -> impl Iterator<Item = T> {
        let live = self.live.lock().take();
        live.into_iter().flat_map(HashMap::into_values)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.live.lock().is_none()
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn stopped_after_all(&self) {
        self.abandoned.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }
}
