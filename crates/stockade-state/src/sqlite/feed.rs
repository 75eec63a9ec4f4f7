//! The latest changes of a keyspace, for those who watch it.
//!
//! The changes stand once for all watchers, so a slow watcher costs nothing but its own place: one
//! that falls behind what is kept is notified and lists its keys again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::StateError;
use crate::value::Version;
use crate::watch::{Change, Selector, Watch, Watched};

/// Most changes that are kept.
const MOST_CHANGES: usize = 4096;

/// Most bytes that their keys may have.
const MOST_KEY_BYTES: usize = 256 << 10;

/// The changes of one keyspace.
#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    latest: watch::Sender<Version>,
    closed: AtomicBool,
    watches: AtomicU64,
}

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Change>,
    bytes: usize,
    /// All changes after this version are kept.
    complete_after: Version,
    /// The last version.
    version: Version,
}

impl Feed {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            ring: Mutex::new(Ring {
                changes: VecDeque::new(),
                bytes: 0,
                complete_after: version,
                version,
            }),
            latest: watch::Sender::new(version),
            closed: AtomicBool::new(false),
            watches: AtomicU64::new(0),
        }
    }

    /// Adds the changes of commits, in their order.
    pub(crate) fn publish(&self, changes: Vec<Change>, version: Version) {
        let mut ring = self.ring.lock();
        for change in changes {
            ring.bytes += change.key.as_str().len();
            ring.changes.push_back(change);
        }
        ring.version = version;
        while ring.changes.len() > MOST_CHANGES || ring.bytes > MOST_KEY_BYTES {
            let Some(oldest) = ring.changes.pop_front() else {
                break;
            };
            ring.bytes = ring.bytes.saturating_sub(oldest.key.as_str().len());
            ring.complete_after = oldest.version;
        }
        drop(ring);
        self.latest.send_replace(version);
    }

    /// Wakes all watchers for the last time.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.latest.send_modify(|_| {});
    }

    pub(crate) fn watches(&self) -> u64 {
        self.watches.load(Ordering::Relaxed)
    }

    /// Opens a watch, if fewer than `most` are open.
    pub(crate) fn watch(
        self: &Arc<Self>,
        selector: Selector,
        from: Option<Version>,
        most: usize,
    ) -> Result<FeedWatch, StateError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StateError::Closed);
        }
        let before = self.watches.fetch_add(1, Ordering::Relaxed);
        let watch = FeedWatch {
            feed: Arc::clone(self),
            selector,
            position: from.unwrap_or_else(|| self.ring.lock().version),
            latest: self.latest.subscribe(),
        };
        if before >= most as u64 {
            return Err(StateError::TooManyWatches { limit: most });
        }
        Ok(watch)
    }
}

impl Ring {
    /// What happened after `position`, which moves on.
    fn after(&self, position: &mut Version, selector: &Selector) -> Option<Watched> {
        if *position < self.complete_after || *position > self.version {
            *position = self.version;
            return Some(Watched::Lagged {
                version: self.version,
            });
        }
        let from = self
            .changes
            .partition_point(|change| change.version <= *position);
        *position = self.version;
        let changes: Vec<Change> = self
            .changes
            .range(from..)
            .filter(|change| selector.selects(&change.key))
            .cloned()
            .collect();
        (!changes.is_empty()).then_some(Watched::Changes {
            changes,
            version: self.version,
        })
    }
}

/// A watch on a feed.
#[derive(Debug)]
pub(crate) struct FeedWatch {
    feed: Arc<Feed>,
    selector: Selector,
    position: Version,
    latest: watch::Receiver<Version>,
}

impl Watch for FeedWatch {
    fn position(&self) -> Version {
        self.position
    }

    fn next(&mut self) -> BoxFuture<'_, Option<Watched>> {
        Box::pin(async move {
            loop {
                // Marked as seen before the look: what comes after the look wakes the wait.
                self.latest.mark_unchanged();
                let seen = self
                    .feed
                    .ring
                    .lock()
                    .after(&mut self.position, &self.selector);
                if seen.is_some() {
                    return seen;
                }
                if self.feed.closed.load(Ordering::SeqCst) {
                    return None;
                }
                self.latest.changed().await.ok()?;
            }
        })
    }
}

impl Drop for FeedWatch {
    fn drop(&mut self) {
        self.feed.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::watch::ChangeKind;

    fn change(key: &str, version: Version) -> Change {
        Change {
            key: Key::new(key).unwrap(),
            version,
            kind: ChangeKind::Put,
        }
    }

    fn all() -> Selector {
        Selector::prefix("").unwrap()
    }

    #[tokio::test]
    async fn watch_sees_selected_changes_in_order() {
        let feed = Arc::new(Feed::new(7));
        let mut watch = feed
            .watch(Selector::prefix("a/").unwrap(), None, 10)
            .unwrap();
        feed.publish(vec![change("a/1", 8), change("b", 8)], 8);
        feed.publish(vec![change("a/2", 9)], 9);
        let seen = watch.next().await.unwrap();
        assert_eq!(
            seen,
            Watched::Changes {
                changes: vec![change("a/1", 8), change("a/2", 9)],
                version: 9
            }
        );
        assert_eq!(watch.position(), 9);
    }

    #[tokio::test]
    async fn watch_that_waits_is_woken_by_a_change() {
        let feed = Arc::new(Feed::new(0));
        let mut watch = feed.watch(all(), None, 10).unwrap();
        let other = Arc::clone(&feed);
        let waiting = tokio::spawn(async move { watch.next().await });
        tokio::task::yield_now().await;
        other.publish(vec![change("k", 1)], 1);
        assert!(matches!(
            waiting.await.unwrap(),
            Some(Watched::Changes { .. })
        ));
    }

    #[tokio::test]
    async fn watch_too_slow_is_notified_and_goes_on() {
        let feed = Arc::new(Feed::new(0));
        let mut watch = feed.watch(all(), None, 10).unwrap();
        for version in 1..=MOST_CHANGES as u64 + 1 {
            feed.publish(vec![change("k", version)], version);
        }
        let latest = MOST_CHANGES as u64 + 1;
        assert_eq!(
            watch.next().await,
            Some(Watched::Lagged { version: latest })
        );
        feed.publish(vec![change("k", latest + 1)], latest + 1);
        assert!(matches!(watch.next().await, Some(Watched::Changes { .. })));
    }

    #[tokio::test]
    async fn watch_from_before_the_store_was_opened_lags() {
        let feed = Arc::new(Feed::new(100));
        for from in [0, 99, 101, u64::MAX] {
            let mut watch = feed.watch(all(), Some(from), 10).unwrap();
            assert_eq!(watch.next().await, Some(Watched::Lagged { version: 100 }));
        }
    }

    #[test]
    fn feed_keeps_bounded_bytes() {
        let feed = Feed::new(0);
        for version in 1..=1000 {
            feed.publish(vec![change(&"k".repeat(2048), version)], version);
        }
        let ring = feed.ring.lock();
        assert!(ring.bytes <= MOST_KEY_BYTES);
        assert_eq!(ring.changes.len(), MOST_KEY_BYTES / 2048);
    }

    #[tokio::test]
    async fn watch_above_the_limit_is_refused_until_one_ends() {
        let feed = Arc::new(Feed::new(0));
        let one = feed.watch(all(), None, 1).unwrap();
        assert_eq!(
            feed.watch(all(), None, 1).unwrap_err(),
            StateError::TooManyWatches { limit: 1 }
        );
        drop(one);
        assert!(feed.watch(all(), None, 1).is_ok());
        assert_eq!(feed.watches(), 0);
    }

    #[tokio::test]
    async fn watch_of_a_closed_store_ends() {
        let feed = Arc::new(Feed::new(0));
        let mut watch = feed.watch(all(), None, 1).unwrap();
        feed.close();
        assert_eq!(watch.next().await, None);
    }
}
