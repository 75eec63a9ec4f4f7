//! Waits for changes of files.
//!
//! Directories are watched, not files: editors, certbot and Kubernetes replace a file by renaming another over it, or
//! by moving a symbolic link that the path goes through. What the kernel does not report, such as changes on a
//! network drive, is found by checking all files every few seconds.
//!
//! Invariant: files are checked on threads for blocking work. A network drive that hangs takes no thread of the
//! runtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::state::{FileState, file_states};

/// How often [`FileWatch::changed`] waits for the files to stay as they are, at most.
const MAX_PAUSES: u32 = 20;

/// Watches files until it is dropped. Needs a Tokio runtime.
pub struct FileWatch {
    files: Arc<[PathBuf]>,
    changed: Arc<Notify>,
    /// `None` until there are files, and while another thread works with it.
    directories: Option<Directories>,
    poll: Duration,
    settle: Duration,
}

impl FileWatch {
    /// `poll` is the time between two checks of all files where the kernel reports nothing. `settle` is how long
    /// files must stay as they are: editors and certbot write in several steps.
    #[must_use]
    pub fn new(poll: Duration, settle: Duration) -> Self {
        Self {
            files: Arc::default(),
            changed: Arc::default(),
            directories: None,
            poll,
            settle,
        }
    }

    /// Watches these files and no others, along with the directories that symbolic links lead to now. Compare their
    /// states after this, so that no change falls in between.
    pub async fn set(&mut self, files: Vec<PathBuf>) {
        self.files = files.into();
        let (files, changed) = (Arc::clone(&self.files), Arc::clone(&self.changed));
        let known = self.directories.take();
        let following = spawn_blocking(move || {
            let mut directories = known.unwrap_or_else(|| Directories::new(changed));
            directories.follow(&files);
            directories
        });
        // It fails only where the runtime ends.
        self.directories = following.await.ok();
    }

    /// The states of the files now, in the order in which they were set.
    pub async fn states(&self) -> Vec<FileState> {
        let files = Arc::clone(&self.files);
        let states = spawn_blocking(move || file_states(&files)).await;
        states.unwrap_or_default()
    }

    /// Waits until the files differ from their `known` states and then stay as they are; returns how they are then.
    /// A change that is undone before the files stay as they are is no change. Where `known` returns `None` nothing is
    /// compared until the next check. Dropping this loses no change.
    pub async fn changed(&self, known: impl Fn() -> Option<Vec<FileState>>) -> Vec<FileState> {
        let differ = |now: &[FileState]| known().is_some_and(|known| known != now);
        loop {
            let mut now = self.states().await;
            if differ(&now) {
                for _ in 0..MAX_PAUSES {
                    sleep(self.settle).await;
                    let before = std::mem::replace(&mut now, self.states().await);
                    if before == now {
                        break;
                    }
                }
                if differ(&now) {
                    return now;
                }
            }
            let _ = timeout(self.poll, self.changed.notified()).await;
        }
    }
}

struct Directories {
    /// `None` where the kernel gives no watches; then only polling finds changes.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(changed: Arc<Notify>) -> Self {
        let watcher = notify::recommended_watcher(move |_| changed.notify_one());
        if let Err(e) = &watcher {
            tracing::warn!("files are not watched by the kernel, only by the clock: {e}");
        }
        Self {
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
        }
    }

    /// Watches the directories of `files`, and those that symbolic links lead to.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeSet::new();
        for file in files {
            let real = file.canonicalize().ok();
            for path in std::iter::once(file).chain(&real) {
                wanted.extend(path.parent().map(directory));
            }
        }
        for gone in self.watched.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.watched) {
            if let Err(e) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), "not watched by the kernel: {e}");
            }
        }
        self.watched = wanted;
    }
}

fn directory(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn changed_ignores_a_change_that_is_undone_while_files_settle() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(Duration::from_millis(1), Duration::ZERO);
        watch.set(vec![file]).await;
        let states = watch.states().await;
        // The known states differ, then are equal, then differ twice.
        let asked = AtomicUsize::new(0);
        let known = || match asked.fetch_add(1, Ordering::Relaxed) {
            1 => Some(states.clone()),
            _ => Some(vec![None]),
        };
        assert_eq!(watch.changed(known).await, states);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}
