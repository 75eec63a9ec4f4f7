//! The time that expiry goes by.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC. They never go back while the store is open, so an entry that
/// expired does not come back when the machine's clock is set back.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    latest: Arc<AtomicI64>,
    follows_machine: bool,
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn machine() -> Self {
        Self {
            latest: Arc::new(AtomicI64::new(i64::MIN)),
            follows_machine: true,
        }
    }

    /// A clock that only tests move.
    #[cfg(test)]
    pub(crate) fn standing(at_ms: i64) -> Self {
        Self {
            latest: Arc::new(AtomicI64::new(at_ms)),
            follows_machine: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn advance(&self, ms: i64) {
        self.latest.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn now_ms(&self) -> i64 {
        if !self.follows_machine {
            return self.latest.load(Ordering::SeqCst);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            });
        self.latest.fetch_max(now, Ordering::SeqCst).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_set_back_stands_still() {
        let clock = Clock::machine();
        let now = clock.now_ms();
        clock.advance(60_000);
        assert!(clock.now_ms() >= now + 60_000);
    }
}
