//! Notices that files changed.
//!
//! Folders are watched, not files: editors, certbot and Kubernetes exchange a file by renaming another
//! over it, or by moving a symbolic link that the path goes through. What the kernel does not tell,
//! such as changes on a network drive, is found by looking at all files every few seconds.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::options::WatchOptions;
use super::store::TlsStore;

/// Watches until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TlsStore {
    /// Reloads when files change, and tells what ends soon. Needs a Tokio runtime.
    pub fn watch(self: &Arc<Self>, options: WatchOptions) -> Watching {
        Watching(tokio::spawn(watch(self.clone(), options)))
    }
}

async fn watch(store: Arc<TlsStore>, options: WatchOptions) {
    let changed = Arc::new(Notify::new());
    let files = if options.files {
        store.files()
    } else {
        Vec::new()
    };
    let mut folders = options.files.then(|| Folders::new(changed.clone()));
    if let Some(folders) = &mut folders {
        // Before the first look, so that no change falls between the two.
        folders.follow(&files);
    }
    let mut dates_due = Instant::now() + options.expiry;
    loop {
        if let Some(folders) = &mut folders {
            let now = look(&files);
            if now != store.looks() {
                settle(&files, now, options.settle).await;
                folders.follow(&files);
                reload(&store).await;
            }
        }
        if Instant::now() >= dates_due {
            dates_due = Instant::now() + options.expiry;
            let now = SystemTime::now();
            if store.must_reload(now) {
                reload(&store).await;
            } else {
                store.check_dates(now);
            }
        }
        let _ = timeout(options.poll.min(options.expiry), changed.notified()).await;
    }
}

/// Problems are told as an event; what was loaded stays in use.
async fn reload(store: &Arc<TlsStore>) {
    let store = store.clone();
    let _ = tokio::task::spawn_blocking(move || store.reload()).await;
}

/// Waits until the files stay as they are: a certificate and its key are written one after the other.
async fn settle(files: &[PathBuf], mut seen: Vec<Look>, pause: Duration) {
    const MOST_PAUSES: u32 = 20;
    for _ in 0..MOST_PAUSES {
        sleep(pause).await;
        let now = look(files);
        if now == seen {
            break;
        }
        seen = now;
    }
}

/// What the file system says of a file: device, inode, length, time of change of contents and of inode.
pub(crate) type Look = Option<(u64, u64, u64, [i64; 4])>;

/// Follows symbolic links, so that a moved link is a change.
pub(crate) fn look(files: &[PathBuf]) -> Vec<Look> {
    let one = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        let times = [
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
        ];
        Some((data.dev(), data.ino(), data.len(), times))
    };
    files.iter().map(one).collect()
}

struct Folders {
    /// `None` where the kernel gives no watches; then only the clock finds changes.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
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

    /// Watches the folders of `files`, and those that symbolic links lead to.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeSet::new();
        for file in files {
            let real = file.canonicalize().ok();
            for path in std::iter::once(file).chain(&real) {
                wanted.extend(path.parent().map(folder));
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

fn folder(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_owned()
    }
}
