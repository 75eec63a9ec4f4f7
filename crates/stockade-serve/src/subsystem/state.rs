//! The shared state of sites.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures_util::future::FutureExt;
use stockade_state::{SqliteOptions, SqliteStore};

use super::{InSnapshot, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;

/// Opens the store for the first site that needs it. Once open it stays open, even if the reload that
/// needed it fails: nothing is in it until a site has a keyspace.
pub(crate) struct StateSubsystem {
    pub(crate) open: OpenStore,
}

/// The store that is open, with its path; also one that a refused reload has opened.
pub(crate) type OpenStore = Arc<OnceLock<(PathBuf, SqliteStore)>>;

impl Subsystem for StateSubsystem {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let config = &reload.next.config;
            let needed = config.instances.values().any(|site| site.state.is_some());
            if let Some((path, store)) = self.open.get() {
                if *path != config.state {
                    return Err(ServeError::Fixed("state"));
                }
                reload.next.store = Some(store.clone());
            } else if needed {
                let options = SqliteOptions::new(config.state.clone());
                let opening = tokio::task::spawn_blocking(move || SqliteStore::open(options));
                let store = opening.await.map_err(|error| ServeError::System {
                    what: "opening the shared state",
                    source: std::io::Error::other(error),
                })??;
                // Reloads come one after the other: nobody else has set it meanwhile.
                let _ = self.open.set((config.state.clone(), store.clone()));
                reload.next.store = Some(store);
            }
            Ok(Box::new(InSnapshot) as Box<dyn Prepared>)
        }
        .boxed()
    }
}
