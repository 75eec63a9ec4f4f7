//! The public keys of tokens that come from an address.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{FutureExt, try_join_all};
use http::Uri;
use stockade_broker::BrokerError;
use stockade_config::JwtAuth;

use super::{InSnapshot, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::site::SiteContext;
use crate::token_keys::FetchedKeys;

/// Fetches the keys of each site that has an address for them. What is fetched in the same way goes on.
pub(crate) struct TokenKeys(pub(crate) Arc<SiteContext>);

impl TokenKeys {
    async fn start(
        &self,
        site: &str,
        jwt: &JwtAuth,
        url: &Uri,
    ) -> Result<(String, Arc<FetchedKeys>), ServeError> {
        let failed = |error: BrokerError| ServeError::Site {
            name: site.to_owned(),
            source: Box::new(error.into()),
        };
        let broker = self.0.brokers.with_roots(&[]).map_err(failed)?;
        let started = FetchedKeys::start(&broker, site, jwt, url).await;
        Ok((site.to_owned(), Arc::new(started.map_err(failed)?)))
    }
}

impl Subsystem for TokenKeys {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let old = reload.old.as_ref().map(|old| &old.token_keys);
            let mut all = BTreeMap::new();
            let mut starting = Vec::new();
            for site in reload.next.config.instances.values() {
                let jwt = site.auth.as_ref().and_then(|auth| auth.jwt.as_ref());
                let Some((jwt, url)) = jwt.and_then(|jwt| Some((jwt, jwt.jwks_url.as_ref()?)))
                else {
                    continue;
                };
                let before = old.and_then(|old| old.get(&site.name));
                match before.filter(|keys| keys.is(jwt)) {
                    Some(keys) => {
                        all.insert(site.name.clone(), Arc::clone(keys));
                    }
                    None => starting.push(self.start(&site.name, jwt, url)),
                }
            }
            // Side by side: addresses that do not answer take their time once.
            all.extend(try_join_all(starting).await?);
            reload.next.token_keys = all;
            Ok(Box::new(InSnapshot) as Box<dyn Prepared>)
        }
        .boxed()
    }
}
