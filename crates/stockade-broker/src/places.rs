//! Places for requests: a number may run at the same time, and a number may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one instance, or of one grant.
pub struct Places {
    free: Arc<Semaphore>,
    count: usize,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
}

/// No place was got.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    /// As many as may already wait; those that have a place counted in.
    Full {
        /// Places, and those that may wait.
        limit: usize,
    },
    /// None became free in time.
    TimedOut {
        /// How long a caller may wait.
        limit: Duration,
    },
}

impl Places {
    /// Makes `count` places; at most `queue` callers wait for one, each as long as `patience`.
    #[must_use]
    pub fn new(count: usize, queue: usize, patience: Duration) -> Self {
        let count = count.min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(count));
        Self {
            free,
            count,
            waiting: AtomicUsize::new(0),
            queue,
            patience,
        }
    }

    /// A place, at once or when it is one's turn.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(&self) -> Result<OwnedSemaphorePermit, Missed> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.queue {
            return Err(Missed::Full {
                limit: self.count.saturating_add(self.queue),
            });
        }
        let place = tokio::time::timeout(self.patience, self.free.clone().acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(Missed::TimedOut {
            limit: self.patience,
        })
    }
}

/// Counts those that wait for a place.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self {
            count,
            before: count.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
