//! Keeps handshakes from taking all cores.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Semaphore;

/// Limits how many handshakes compute at the same time, and how many wait.
#[derive(Debug)]
pub(crate) struct Turns {
    computing: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Turns {
    pub(crate) fn new(computing: usize, most_waiting: usize) -> Self {
        Self {
            computing: Semaphore::new(computing.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            most_waiting,
        }
    }

    /// Waits for a turn, then does the first poll of the future in it; the others are cheap. `None` if too many
    /// wait already.
    pub(crate) async fn run<F: Future + Unpin>(
        &self,
        start: impl FnOnce() -> F,
    ) -> Option<F::Output> {
        let waits = Waits(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return None;
        }
        let turn = self.computing.acquire().await.ok()?;
        drop(waits);
        let mut future = start();
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await;
        drop(turn);
        match first {
            Poll::Ready(output) => Some(output),
            Poll::Pending => Some(future.await),
        }
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
