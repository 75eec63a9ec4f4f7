//! `env.FILES`: the folders of a site's `files`, opened with the site. The methods are those of the grants `files`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_capability::Capability;
use stockade_config::Instance as SiteConfig;
use stockade_grants::Files;

use super::Ground;
use crate::error::SiteError;
use crate::plan;

pub(super) fn granted(site: &SiteConfig) -> Vec<&str> {
    let names = site.files.iter().map(|grant| grant.binding.as_str());
    names.collect()
}

pub(super) fn open<'a>(
    ground: &'a Ground<'a>,
    name: &'a str,
) -> BoxFuture<'a, Result<Option<Arc<dyn Capability>>, SiteError>> {
    Box::pin(async move {
        let grants = &ground.site.files;
        let Some(grant) = grants.iter().find(|grant| grant.binding == name) else {
            return Ok(None);
        };
        let options = plan::grants::folder(grant);
        let (broker, site) = (ground.broker.clone(), ground.site.name.clone());
        // Opening a folder counts what is in it, which may take long.
        let opening = tokio::task::spawn_blocking(move || broker.folder(&site, options));
        let folder = opening
            .await
            .map_err(|error| SiteError::BrokeOff(error.to_string()))??;
        Ok(Some(Arc::new(Files::new(folder)) as Arc<dyn Capability>))
    })
}
