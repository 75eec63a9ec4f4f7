//! Reloads a store's certificates when their files change, and checks their dates.

use std::sync::Arc;
use std::time::SystemTime;

use stockade_watch::FileWatch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

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
    /// Reloads when files change, and reports what ends soon. Needs a Tokio runtime.
    pub fn watch(self: &Arc<Self>, options: WatchOptions) -> Watching {
        Watching(tokio::spawn(watch(self.clone(), options)))
    }
}

async fn watch(store: Arc<TlsStore>, options: WatchOptions) {
    let mut files = FileWatch::new(options.poll, options.settle);
    if options.files {
        files.set(store.files()).await;
    }
    let mut dates_due = Instant::now() + options.expiry;
    loop {
        let changed = async {
            if options.files {
                files.changed(|| store.file_states()).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = changed => {
                // Links may lead to other directories now.
                files.set(store.files()).await;
                reload(&store).await;
            }
            () = sleep_until(dates_due) => {
                dates_due = Instant::now() + options.expiry;
                let now = SystemTime::now();
                if store.must_reload(now) {
                    reload(&store).await;
                } else {
                    store.check_dates(now);
                }
            }
        }
    }
}

/// Problems are reported as an event; what was loaded stays in use.
async fn reload(store: &Arc<TlsStore>) {
    let store = store.clone();
    let _ = spawn_blocking(move || store.reload()).await;
}
