//! Bounds console output by lines and bytes in each second.

use std::time::{Duration, Instant};

use stockade_protocol::bounds::{MAX_CONSOLE_BYTES_PER_SECOND, MAX_CONSOLE_LINES_PER_SECOND};

/// What becomes of a line.
pub(crate) enum Admit {
    Line,
    /// The first one that is dropped in a second.
    FirstDropped,
    Drop,
    /// The first line after this many were dropped.
    After(u32),
}

pub(crate) struct ConsoleRate {
    since: Instant,
    lines: u32,
    bytes: usize,
    dropped: u32,
    /// One was dropped in this second.
    over: bool,
}

impl Default for ConsoleRate {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            lines: 0,
            bytes: 0,
            dropped: 0,
            over: false,
        }
    }
}

impl ConsoleRate {
    pub(crate) fn admit(&mut self, bytes: usize) -> Admit {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.since = Instant::now();
            self.lines = 0;
            self.bytes = 0;
            self.over = false;
        }
        let lines = self.lines + 1;
        let bytes = self.bytes.saturating_add(bytes);
        if lines > MAX_CONSOLE_LINES_PER_SECOND || bytes > MAX_CONSOLE_BYTES_PER_SECOND {
            self.dropped = self.dropped.saturating_add(1);
            return match std::mem::replace(&mut self.over, true) {
                false => Admit::FirstDropped,
                true => Admit::Drop,
            };
        }
        self.lines = lines;
        self.bytes = bytes;
        match self.take_dropped() {
            0 => Admit::Line,
            dropped => Admit::After(dropped),
        }
    }

    /// How many lines were dropped of which [`Admit::After`] has not spoken.
    pub(crate) fn take_dropped(&mut self) -> u32 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_rate_flood_is_cut_and_counted() {
        let mut rate = ConsoleRate::default();
        let admitted = (0..MAX_CONSOLE_LINES_PER_SECOND * 2)
            .filter(|_| matches!(rate.admit(10), Admit::Line))
            .count();
        assert_eq!(admitted, MAX_CONSOLE_LINES_PER_SECOND as usize);
        assert!(matches!(rate.admit(10), Admit::Drop));
        rate.since = Instant::now() - Duration::from_secs(2);
        assert!(matches!(
            rate.admit(10),
            Admit::After(dropped) if dropped == MAX_CONSOLE_LINES_PER_SECOND + 1
        ));
        assert_eq!(rate.take_dropped(), 0);
    }

    #[test]
    fn console_rate_first_dropped_line_of_a_second_is_marked() {
        let mut rate = ConsoleRate::default();
        for _ in 0..2 {
            let noted = (0..MAX_CONSOLE_LINES_PER_SECOND * 2)
                .filter(|_| matches!(rate.admit(10), Admit::FirstDropped))
                .count();
            assert_eq!(noted, 1);
            rate.since = Instant::now() - Duration::from_secs(2);
        }
        assert_eq!(rate.take_dropped(), MAX_CONSOLE_LINES_PER_SECOND);
    }
}
