//! Notices that files of the configuration or of sites' code changed.
//!
//! Folders are watched, not files: whoever exchanges a file renames another over it, or moves a link that
//! the path goes through. What the kernel does not tell is found by a look every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Between two looks at all files.
const POLL: Duration = Duration::from_secs(3);

/// How long files must stay as they are: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// Pauses of [`SETTLE`] at most.
const MOST_PAUSES: u32 = 20;

/// What tells one state of a file from another: device, inode, size, time of the last change.
type Look = Option<(u64, u64, u64, i64, i64)>;

/// Watches files until it is dropped.
pub(super) struct Watch {
    changed: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    seen: BTreeMap<PathBuf, Look>,
}

fn look(path: &Path) -> Look {
    let data = std::fs::metadata(path).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.mtime(),
        data.mtime_nsec(),
    ))
}

impl Watch {
    pub(super) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |_| wake.notify_one());
        if let Err(error) = &watcher {
            tracing::info!(%error, "the kernel tells of no changes: files are looked at every {POLL:?}");
        }
        Self {
            changed,
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Watches these files and no others. Those that were watched before are compared with what was seen
    /// last, so that no change is missed.
    pub(super) fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        let folders = files
            .iter()
            .filter_map(|file| file.parent().map(Path::to_owned))
            .collect::<BTreeSet<_>>();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.folders.difference(&folders) {
                let _ = watcher.unwatch(gone);
            }
            for new in folders.difference(&self.folders) {
                // One that cannot be watched is looked at.
                let _ = watcher.watch(new, RecursiveMode::NonRecursive);
            }
        }
        self.folders = folders;
        let mut seen = BTreeMap::new();
        for file in files {
            let last = self.seen.remove(&file).unwrap_or_else(|| look(&file));
            seen.insert(file, last);
        }
        self.seen = seen;
    }

    fn differs(&mut self) -> bool {
        let mut differs = false;
        for (path, seen) in &mut self.seen {
            let now = look(path);
            if *seen != now {
                *seen = now;
                differs = true;
            }
        }
        differs
    }

    /// Waits until something changed and then stays as it is. Nothing is lost where this is dropped and
    /// called again.
    pub(super) async fn changed(&mut self) {
        loop {
            let _ = tokio::time::timeout(POLL, self.changed.notified()).await;
            // Only looking must not forget: whoever drops this has not been told.
            let now: Vec<Look> = self.seen.keys().map(|path| look(path)).collect();
            if now.iter().eq(self.seen.values()) {
                continue;
            }
            let mut before = now;
            for _ in 0..MOST_PAUSES {
                tokio::time::sleep(SETTLE).await;
                let now: Vec<Look> = self.seen.keys().map(|path| look(path)).collect();
                if now == before {
                    break;
                }
                before = now;
            }
            if self.differs() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watch_notices_a_change_a_rename_and_a_moved_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        std::fs::create_dir(at("v1")).unwrap();
        std::fs::create_dir(at("v2")).unwrap();
        std::fs::write(at("v1/c"), "1").unwrap();
        std::fs::write(at("v2/c"), "2").unwrap();
        std::os::unix::fs::symlink("v1", at("current")).unwrap();
        let mut watch = Watch::new();
        watch.set([at("a"), at("current/c")]);
        std::fs::write(at("a"), "22").unwrap();
        watch.changed().await;
        std::fs::write(at("b"), "333").unwrap();
        std::fs::rename(at("b"), at("a")).unwrap();
        watch.changed().await;
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        std::fs::rename(at("next"), at("current")).unwrap();
        watch.changed().await;
        std::fs::remove_file(at("a")).unwrap();
        watch.changed().await;
    }
}
