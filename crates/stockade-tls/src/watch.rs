//! Notices that files changed.
//!
//! Folders are watched, not files: editors, certbot and Kubernetes exchange a file by renaming another
//! over it, or by moving a symbolic link that the path goes through. What the kernel does not tell,
//! such as changes on a network drive, is found by looking at all files every few seconds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::look::{Look, look};
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

/// All work with files is done aside: a network drive that hangs must not take a thread of the runtime.
async fn watch(store: Arc<TlsStore>, options: WatchOptions) {
    let changed = Arc::new(Notify::new());
    let files: Arc<[PathBuf]> = if options.files {
        store.files().into()
    } else {
        Arc::default()
    };
    let mut folders = None;
    if options.files {
        // Before the first look, so that no change falls between the two.
        folders = follow(Folders::new(changed.clone()), &files).await;
    }
    let mut dates_due = Instant::now() + options.expiry;
    loop {
        if let Some(known) = folders.take() {
            let now = aside(&files).await;
            folders = if store.looks().is_some_and(|looks| looks != now) {
                settle(&files, now, options.settle).await;
                let known = follow(known, &files).await;
                reload(&store).await;
                known
            } else {
                Some(known)
            };
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
    let _ = spawn_blocking(move || store.reload()).await;
}

/// Waits until the files stay as they are: a certificate and its key are written one after the other.
async fn settle(files: &Arc<[PathBuf]>, mut seen: Vec<Look>, pause: Duration) {
    const MOST_PAUSES: u32 = 20;
    for _ in 0..MOST_PAUSES {
        sleep(pause).await;
        let now = aside(files).await;
        if now == seen {
            break;
        }
        seen = now;
    }
}

async fn aside(files: &Arc<[PathBuf]>) -> Vec<Look> {
    let files = files.clone();
    spawn_blocking(move || look(&files))
        .await
        .unwrap_or_default()
}

/// `None` only where the runtime ends.
async fn follow(mut folders: Folders, files: &Arc<[PathBuf]>) -> Option<Folders> {
    let files = files.clone();
    let following = spawn_blocking(move || {
        folders.follow(&files);
        folders
    });
    following.await.ok()
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
