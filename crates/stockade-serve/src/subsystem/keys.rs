//! The API keys of clients.

use std::sync::Arc;

use futures_util::future::FutureExt;
use stockade_auth::{KeyAction, Keys, Pepper};

use super::{InSnapshot, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::keys::OpenKeys;
use crate::observe::Logs;
use crate::plan;

/// Opens the store of keys for the first instance that asks for one, or the admin API. Once open it stays open, as the shared state
/// does.
pub(crate) struct KeysSubsystem {
    pub(crate) open: OpenKeys,
    pub(crate) logs: Arc<Logs>,
}

impl Subsystem for KeysSubsystem {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let config = &reload.next.config;
            let of_sites = config.instances.values().any(plan::gateway::accepts_keys);
            let needed = of_sites || config.admin.is_some();
            if let Some((place, keys)) = self.open.get() {
                if *place != config.api_keys {
                    return Err(ServeError::Fixed("api_keys"));
                }
                reload.next.keys = Some(keys.clone());
            } else if needed {
                let place = config.api_keys.clone();
                let logs = Arc::clone(&self.logs);
                let report = Box::new(move |action: &KeyAction| logs.audit.confirm_key(action));
                let opening = tokio::task::spawn_blocking(move || {
                    let pepper = Pepper::load(&place.pepper, place.pepper_variable.as_deref())?;
                    let keys = Keys::open_reporting(&place.path, pepper, report)?;
                    Ok::<_, ServeError>((place, keys))
                });
                let (place, keys) = opening.await.map_err(|error| ServeError::System {
                    what: "opening the API keys",
                    source: std::io::Error::other(error),
                })??;
                // Reloads come one after the other: nobody else has set it meanwhile.
                let _ = self.open.set((place, keys.clone()));
                reload.next.keys = Some(keys);
            }
            Ok(Box::new(InSnapshot) as Box<dyn Prepared>)
        }
        .boxed()
    }
}
