//! How often something was done within a time that ends now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most `most` within each stretch of this length, wherever the stretch begins.
pub(super) struct Window {
    length: Duration,
    most: usize,
    done: VecDeque<Instant>,
}

impl Window {
    pub(super) fn new(length: Duration, most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self {
            length,
            most,
            done: VecDeque::new(),
        }
    }

    /// How many it allows.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether one more is allowed at this time.
    pub(super) fn has_place(&mut self, now: Instant) -> bool {
        let done = &mut self.done;
        while done
            .front()
            .is_some_and(|then| now.saturating_duration_since(*then) >= self.length)
        {
            done.pop_front();
        }
        done.len() < self.most
    }

    /// Counts one.
    pub(super) fn take(&mut self, now: Instant) {
        self.done.push_back(now);
    }
}
