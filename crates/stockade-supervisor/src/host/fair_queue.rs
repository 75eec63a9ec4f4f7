//! Start-time fair queuing: who is served next by one consumer.
//!
//! Invariant: the next entry is the one that has had least of the consumer's time, counted from when it last was
//! not waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;

pub(crate) struct FairQueue<T> {
    line: Mutex<Line<T>>,
    waker: AtomicWaker,
    /// Producers that have something to do.
    working: AtomicUsize,
}

/// Entries that wait, by the time that they have been served.
struct Line<T> {
    waiting: BTreeMap<Position, T>,
    /// The position of the entry that was served last. One that joins stands no further ahead.
    clock: u64,
    joined: u64,
    /// The consumer is gone.
    closed: bool,
}

/// Time served, whether a turn was too short for the entry, and the order of joining.
type Position = (u64, bool, u64);

impl<T> FairQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: BTreeMap::new(),
                clock: 0,
                joined: 0,
                closed: false,
            }),
            waker: AtomicWaker::new(),
            working: AtomicUsize::new(0),
        }
    }

    /// Adds an entry that has had `served` nanoseconds of the consumer's time, which is corrected for the time
    /// that it did not wait; `again` where its last turn was too short for it. After [`FairQueue::close`] it is dropped.
    pub(crate) fn join(&self, entry: T, served: &AtomicU64, again: bool) {
        {
            let mut line = self.line.lock();
            if line.closed {
                // Its end may need the lock.
                drop(line);
                return;
            }
            let from = served.load(Ordering::SeqCst).max(line.clock);
            served.store(from, Ordering::SeqCst);
            line.joined += 1;
            let position = (from, again, line.joined);
            line.waiting.insert(position, entry);
        }
        self.waker.wake();
    }

    /// Takes the entry that is served next. Wakes the task when there is one, and when the last producer has
    /// nothing to do any more.
    pub(crate) fn next(&self, waker: &Waker) -> Option<T> {
        self.waker.register(waker);
        let mut line = self.line.lock();
        let ((served, ..), entry) = line.waiting.pop_first()?;
        line.clock = line.clock.max(served);
        Some(entry)
    }

    /// Drops all entries: nobody will take them. Entries hold their queue, so that they would hold each other for ever.
    pub(crate) fn close(&self) {
        let mut line = self.line.lock();
        line.closed = true;
        let left = std::mem::take(&mut line.waiting);
        drop(line);
        drop(left);
    }

    pub(crate) fn work_began(&self) {
        self.working.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn work_ended(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.waker.wake();
        }
    }

    /// Whether a producer has something to do, or an entry waits.
    pub(crate) fn has_work(&self) -> bool {
        self.working.load(Ordering::SeqCst) > 0 || !self.line.lock().waiting.is_empty()
    }
}
