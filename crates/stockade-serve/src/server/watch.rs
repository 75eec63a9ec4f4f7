//! Notices that files of the configuration or of sites' code changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use stockade_watch::{FileState, FileWatch};

/// Between two checks of all files where the kernel reports nothing.
const POLL: Duration = Duration::from_secs(3);

/// How long files must stay as they are.
const SETTLE: Duration = Duration::from_millis(150);

/// Watches files until it is dropped.
pub(super) struct Watch {
    watch: FileWatch,
    /// The files, in order, each in the state in which it was last seen.
    seen: BTreeMap<PathBuf, FileState>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            watch: FileWatch::new(POLL, SETTLE),
            seen: BTreeMap::new(),
        }
    }

    /// Watches these files and no others. Those that were watched before are compared with what was seen
    /// last, so that no change is missed.
    pub(super) async fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        self.watch.set(files.iter().cloned().collect()).await;
        let states = self.watch.states().await;
        let seen = files.into_iter().zip(states).map(|(file, now)| {
            let last = self.seen.remove(&file).unwrap_or(now);
            (file, last)
        });
        self.seen = seen.collect();
    }

    /// Waits until something changed and then stays as it is. Nothing is lost where this is dropped and
    /// called again.
    pub(super) async fn changed(&mut self) {
        let seen = || Some(self.seen.values().copied().collect());
        let now = self.watch.changed(seen).await;
        for (seen, now) in self.seen.values_mut().zip(now) {
            *seen = now;
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
        watch.set([at("a"), at("current/c")]).await;
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
