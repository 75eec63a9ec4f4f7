//! The last lines of the log, for those who look on.
//!
//! Invariants:
//! 1. A thread that logs a line never waits for those who look on: they read from one ring, each at its own speed.
//! 2. The ring has at most [`MOST_LINES`] lines and [`MOST_RECENT_BYTES`] bytes. A reader that is too slow for it receives the number
//!    of lines that were missed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Level;

/// Lines that are kept.
const MOST_LINES: usize = 4096;

/// Bytes of lines that are kept.
const MOST_RECENT_BYTES: usize = 4 << 20;

/// Lines that are given at a time.
const MOST_AT_A_TIME: usize = 256;

/// One line.
#[derive(Debug)]
pub(crate) struct RecentLine {
    /// Counts all lines since the start; the first is 1.
    pub(crate) number: u64,
    pub(crate) level: Level,
    /// The name of its event.
    pub(crate) event: &'static str,
    /// A JSON object, without the end of the line.
    pub(crate) json: Box<str>,
}

/// The last lines. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Recent(Arc<Shared>);

#[derive(Default)]
struct Shared {
    ring: Mutex<Ring>,
    followers: AtomicUsize,
    added: Notify,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<Arc<RecentLine>>,
    bytes: usize,
    /// The number of the last line.
    last: u64,
}

impl Recent {
    /// Adds a line, whose end is left out.
    pub(super) fn add(&self, level: Level, event: &'static str, line: &str) {
        let json: Box<str> = line.trim_end_matches('\n').into();
        let mut ring = self.0.ring.lock();
        ring.last += 1;
        ring.bytes += json.len();
        let number = ring.last;
        ring.lines.push_back(Arc::new(RecentLine {
            number,
            level,
            event,
            json,
        }));
        while ring.lines.len() > MOST_LINES || ring.bytes > MOST_RECENT_BYTES {
            let Some(gone) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= gone.json.len();
        }
        drop(ring);
        if self.0.followers.load(Ordering::SeqCst) > 0 {
            self.0.added.notify_waiters();
        }
    }

    /// Looks on from behind the line of this number; from the oldest one that is kept where that is later, and from now on
    /// where `after` is none.
    pub(crate) fn follow(&self, after: Option<u64>) -> Follower {
        self.0.followers.fetch_add(1, Ordering::SeqCst);
        let last = self.0.ring.lock().last;
        Follower {
            recent: self.clone(),
            // A number of the future is that of another run of the server.
            next: after.map_or(last + 1, |after| if after > last { 1 } else { after + 1 }),
        }
    }
}

/// Some lines, and how many were missed before them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) missed: u64,
    pub(crate) lines: Vec<Arc<RecentLine>>,
}

/// Reads lines as they come.
pub(crate) struct Follower {
    recent: Recent,
    /// The number of the line that comes next.
    next: u64,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.recent.0.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Follower {
    /// Lines that are there, if any.
    pub(crate) fn ready(&mut self) -> Option<Lines> {
        let ring = self.recent.0.ring.lock();
        if ring.last < self.next {
            return None;
        }
        let first = ring.lines.front().map_or(ring.last + 1, |line| line.number);
        let missed = first.saturating_sub(self.next);
        let from = (self.next.max(first) - first) as usize;
        let lines = ring.lines.iter().skip(from).take(MOST_AT_A_TIME);
        let lines: Vec<Arc<RecentLine>> = lines.map(Arc::clone).collect();
        drop(ring);
        self.next = self.next.max(first) + lines.len() as u64;
        Some(Lines { missed, lines })
    }

    /// The next lines, when there are some.
    pub(crate) async fn next(&mut self) -> Lines {
        loop {
            let recent = self.recent.clone();
            let mut added = std::pin::pin!(recent.0.added.notified());
            // A line that comes after the look is noticed.
            added.as_mut().enable();
            if let Some(lines) = self.ready() {
                return lines;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(recent: &Recent, text: &str) {
        recent.add(Level::INFO, "log", &format!("{text}\n"));
    }

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.lines.iter().map(|line| &*line.json).collect()
    }

    #[tokio::test]
    async fn follower_gets_what_is_kept_and_what_comes() {
        let recent = Recent::default();
        add(&recent, "1");
        add(&recent, "2");
        let mut all = recent.follow(Some(0));
        let mut later = recent.follow(Some(1));
        let mut new = recent.follow(None);
        assert_eq!(texts(&all.next().await), ["1", "2"]);
        assert_eq!(texts(&later.next().await), ["2"]);
        assert!(new.ready().is_none());
        let waiting = tokio::spawn(async move { new.next().await });
        tokio::task::yield_now().await;
        add(&recent, "3");
        assert_eq!(texts(&waiting.await.unwrap()), ["3"]);
        // The number of another run of the server.
        let mut other = recent.follow(Some(1000));
        assert_eq!(texts(&other.next().await), ["1", "2", "3"]);
    }

    #[tokio::test]
    async fn follower_that_does_not_read_costs_nothing_and_misses_lines() {
        let recent = Recent::default();
        let mut slow: Vec<Follower> = (0..1000).map(|_| recent.follow(None)).collect();
        for number in 1..=3 * MOST_LINES {
            add(&recent, &number.to_string());
        }
        assert_eq!(recent.0.ring.lock().lines.len(), MOST_LINES);
        let mut slow = slow.pop().unwrap();
        let lines = slow.next().await;
        assert_eq!(lines.missed, 2 * MOST_LINES as u64);
        assert_eq!(texts(&lines)[0], (2 * MOST_LINES + 1).to_string());
        let mut read = lines.lines.len();
        while let Some(lines) = slow.ready() {
            assert_eq!(lines.missed, 0);
            read += lines.lines.len();
        }
        assert_eq!(read, MOST_LINES);
    }

    #[test]
    fn ring_is_bounded_by_bytes_too() {
        let recent = Recent::default();
        for _ in 0..10 {
            add(&recent, &"x".repeat(MOST_RECENT_BYTES / 3));
        }
        let ring = recent.0.ring.lock();
        assert!(
            ring.bytes <= MOST_RECENT_BYTES && ring.lines.len() == 3,
            "{}",
            ring.lines.len()
        );
    }
}
