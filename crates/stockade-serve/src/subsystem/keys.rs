//! The API keys of clients.

use futures_util::future::FutureExt;
use stockade_auth::{Keys, Pepper};

use super::{InSnapshot, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::keys::OpenKeys;

/// Opens the store of keys for the first instance that asks for one, or the admin API. Once open it stays open, as the shared state
/// does.
pub(crate) struct KeysSubsystem {
    pub(crate) open: OpenKeys,
}

impl Subsystem for KeysSubsystem {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let config = &reload.next.config;
            let of_sites = config.instances.values().any(|site| site.auth.is_some());
            let needed = of_sites || config.admin.is_some();
            if let Some((place, keys)) = self.open.get() {
                if *place != config.api_keys {
                    return Err(ServeError::Fixed("api_keys"));
                }
                reload.next.keys = Some(keys.clone());
            } else if needed {
                let place = config.api_keys.clone();
                let opening = tokio::task::spawn_blocking(move || {
                    let pepper = Pepper::load(&place.pepper, place.pepper_variable.as_deref())?;
                    let keys = Keys::open(&place.path, pepper)?;
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
