//! How one isolate ends: the first reason stands, and it is reported once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_protocol::harmless_line;
use tokio::sync::Notify;

use crate::end::End;

/// Bytes of a place in a guest's code that are kept with its end.
const MAX_PLACE: usize = 512;

/// The end of one isolate, from the first reason for it until nothing of the isolate runs any more.
#[derive(Default)]
pub(crate) struct Termination {
    /// Whether there is a reason, readable without the lock.
    begun: AtomicBool,
    record: Mutex<Record>,
    /// Wakes those that wait for the end.
    begins: Notify,
    /// Wakes those that wait until nothing of it runs any more.
    leaves: Notify,
}

#[derive(Default)]
struct Record {
    end: Option<End>,
    since: Option<Instant>,
    /// The host has been sent the events of the end.
    reported: bool,
    /// Nothing of the isolate runs any more.
    left: bool,
    /// It runs on past its grace, and is counted for that.
    abandoned: bool,
}

/// What an isolate that is ending still does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It has time left to stop by itself.
    Stopping,
    /// It runs on past its grace.
    Overdue,
    /// Nothing of it runs any more.
    Left,
}

impl Termination {
    /// Notes how the isolate ends; false where it is ending already.
    pub(crate) fn begin(&self, end: End) -> bool {
        let mut record = self.record.lock();
        if record.end.is_some() {
            return false;
        }
        record.end = Some(end);
        record.since = Some(Instant::now());
        self.begun.store(true, Ordering::SeqCst);
        drop(record);
        self.begins.notify_waiters();
        true
    }

    /// Waits until there is a reason; at once where there is one.
    pub(crate) async fn wait(&self) {
        let mut begins = std::pin::pin!(self.begins.notified());
        // From here on it is woken.
        begins.as_mut().enable();
        if !self.has_begun() {
            begins.await;
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.record.lock().end.clone()
    }

    /// The end, for the thread that reports it: given once.
    pub(crate) fn take_report(&self) -> Option<End> {
        let mut record = self.record.lock();
        let end = record.end.clone().filter(|_| !record.reported)?;
        record.reported = true;
        Some(end)
    }

    /// Adds to the detail of the end where in its code the guest was. Only until the end is reported.
    pub(crate) fn note_place(&self, place: &str) {
        let mut record = self.record.lock();
        if record.reported {
            return;
        }
        if let Some(End::Terminated { detail, .. }) = &mut record.end {
            if !detail.is_empty() {
                detail.push_str(", ");
            }
            detail.push_str("at ");
            detail.push_str(&harmless_line(place, MAX_PLACE));
        }
    }

    /// How far the end is. `abandon` is called once for an isolate that runs on past `grace`, and says whether
    /// that is counted.
    pub(crate) fn progress(&self, grace: Duration, abandon: impl FnOnce() -> bool) -> Ending {
        let mut record = self.record.lock();
        if record.left {
            return Ending::Left;
        }
        if record.since.is_none_or(|since| since.elapsed() <= grace) {
            return Ending::Stopping;
        }
        if !record.abandoned {
            record.abandoned = abandon();
        }
        Ending::Overdue
    }

    /// Notes that nothing of the isolate runs any more. `return_abandoned` is called where it was counted as
    /// abandoned.
    pub(crate) fn leave(&self, return_abandoned: impl FnOnce()) {
        let mut record = self.record.lock();
        record.left = true;
        if std::mem::take(&mut record.abandoned) {
            return_abandoned();
        }
        drop(record);
        self.leaves.notify_waiters();
    }

    /// Waits until nothing of it runs any more.
    pub(crate) async fn until_left(&self) {
        let mut leaves = std::pin::pin!(self.leaves.notified());
        // From here on it is woken.
        leaves.as_mut().enable();
        if !self.record.lock().left {
            leaves.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::{DestroyReason, ResourceUsage, TerminateReason};

    fn terminated(detail: &str) -> End {
        End::Terminated {
            reason: TerminateReason::CpuLimit,
            usage: ResourceUsage::default(),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn termination_first_end_stands_and_is_reported_once() {
        let termination = Termination::default();
        assert!(termination.take_report().is_none());
        assert!(termination.begin(terminated("a")));
        assert!(!termination.begin(End::Destroyed(DestroyReason::Requested)));
        termination.note_place("main.js:1:1");
        assert_eq!(
            termination.take_report(),
            Some(terminated("a, at main.js:1:1"))
        );
        termination.note_place("main.js:2:2");
        assert_eq!(termination.take_report(), None);
        assert_eq!(termination.end(), Some(terminated("a, at main.js:1:1")));
    }

    #[test]
    fn termination_counts_an_isolate_as_abandoned_once_and_until_it_left() {
        let termination = Termination::default();
        let grace = Duration::ZERO;
        assert_eq!(termination.progress(grace, || true), Ending::Stopping);
        termination.begin(terminated(""));
        std::thread::sleep(Duration::from_millis(1));
        let mut abandoned = 0;
        for _ in 0..2 {
            let counted = || {
                abandoned += 1;
                true
            };
            assert_eq!(termination.progress(grace, counted), Ending::Overdue);
        }
        assert_eq!(abandoned, 1);
        termination.leave(|| abandoned -= 1);
        termination.leave(|| abandoned -= 1);
        assert_eq!(abandoned, 0);
        assert_eq!(termination.progress(grace, || true), Ending::Left);
    }
}
