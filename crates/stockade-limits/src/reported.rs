//! What of a transfer was reported, so that one that lasts for long is counted while it lasts and not only at its end.

use std::time::{Duration, Instant};

/// How often a transfer is reported.
const EVERY: Duration = Duration::from_secs(1);

/// What of a transfer's two directions was reported.
#[derive(Debug)]
pub struct Reported {
    last: Instant,
    sent: u64,
    received: u64,
}

impl Reported {
    /// A transfer that begins now, of which nothing was reported.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            last: now,
            sent: 0,
            received: 0,
        }
    }

    /// Bytes sent and received that are to be reported now, of those that there are; `None` within a second of the last
    /// time.
    pub fn due(&mut self, sent: u64, received: u64, now: Instant) -> Option<(u64, u64)> {
        if now.saturating_duration_since(self.last) < EVERY {
            return None;
        }
        self.last = now;
        Some(self.rest(sent, received)).filter(|more| *more != (0, 0))
    }

    /// Bytes sent and received that were not reported, at the end of the transfer.
    pub fn rest(&mut self, sent: u64, received: u64) -> (u64, u64) {
        let more = (
            sent.saturating_sub(self.sent),
            received.saturating_sub(self.received),
        );
        (self.sent, self.received) = (self.sent.max(sent), self.received.max(received));
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_is_reported_once_in_a_second_and_adds_up() {
        let began = Instant::now();
        let mut reported = Reported::new(began);
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        assert_eq!(reported.due(5, 1, at(999)), None);
        assert_eq!(reported.due(7, 1, at(1000)), Some((7, 1)));
        assert_eq!(reported.due(9, 4, at(1500)), None);
        assert_eq!(reported.due(9, 4, at(2000)), Some((2, 3)));
        assert_eq!(reported.due(9, 4, at(3000)), None);
        assert_eq!(reported.rest(10, 4), (1, 0));
        assert_eq!(reported.rest(10, 4), (0, 0));
    }
}
