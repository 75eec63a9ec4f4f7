//! Reads the code of sites: what the configuration names, and versions that were uploaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use stockade_config::{Config, Instance};
use stockade_transpile::ModuleFiles;

use crate::deployments::{Deployment, DeploymentStore, Share, Sticky, VersionRef};
use crate::error::{ServeError, SiteError};
use crate::site;
use crate::subsystem::{CodeShare, SiteCode};

/// Reads the code of all sites that have some.
///
/// # Errors
/// Why the code of the first site that cannot be read cannot.
pub(super) async fn read_all(
    config: &Arc<Config>,
    store: Option<Arc<DeploymentStore>>,
) -> Result<BTreeMap<String, SiteCode>, ServeError> {
    let config = Arc::clone(config);
    let reading = tokio::task::spawn_blocking(move || {
        let sites = config.instances.iter();
        let sites = sites.filter(|(_, site)| site.code.is_some());
        let read = sites.map(|(name, site)| {
            let deployment = match &store {
                Some(store) => store.deployment(name)?,
                None => Deployment::default(),
            };
            let Deployment {
                traffic, sticky, ..
            } = deployment;
            let code = read(store.as_deref(), name, site, &traffic, sticky)?;
            Ok::<_, ServeError>((name.clone(), code))
        });
        read.collect()
    });
    reading.await.map_err(|error| ServeError::System {
        what: "reading code",
        source: std::io::Error::other(error),
    })?
}

/// Reads the code of one site.
///
/// # Errors
/// When a version cannot be read.
pub(super) fn read(
    store: Option<&DeploymentStore>,
    name: &str,
    site: &Instance,
    traffic: &[Share],
    sticky: Sticky,
) -> Result<SiteCode, ServeError> {
    let files = |version: &VersionRef| -> Result<(ModuleFiles, Option<PathBuf>), ServeError> {
        match (version, store) {
            (VersionRef::Uploaded(id), Some(store)) => {
                let record = store.version(name, id)?;
                let main = record.and_then(|record| record.main);
                let folder = store.files_of(name, id);
                let entry = main.map_or_else(|| folder.clone(), |main| folder.join(main));
                let read = ModuleFiles::read(&entry).map_err(SiteError::from);
                let read = read.map_err(|why| ServeError::site(name, why))?;
                Ok((read, site::assets_of(site, &folder)))
            }
            _ => {
                let read = site::code(site).map_err(|why| ServeError::site(name, why))?;
                let missing = || SiteError::BrokeOff("it has no code".to_owned());
                let read = read.ok_or_else(|| ServeError::site(name, missing()))?;
                Ok((read, None))
            }
        }
    };
    let shares = traffic.iter().map(|share| {
        let (files, assets) = files(&share.version)?;
        Ok(CodeShare {
            version: share.version.clone(),
            percent: share.percent,
            files,
            assets,
        })
    });
    Ok(SiteCode::Read {
        shares: shares.collect::<Result<_, ServeError>>()?,
        sticky,
    })
}
