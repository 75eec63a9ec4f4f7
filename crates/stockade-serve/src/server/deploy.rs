//! Changes which versions get the requests of an instance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use stockade_audit::Record;

use super::Server;
use super::code;
use super::watch::Watch;
use crate::admin::{Deploy, DeployChange, DeployRefusal};
use crate::deployments::{Deployment, DeploymentStore, Share, Sticky, VersionRef};
use crate::error::ServeError;
use crate::running::Running;
use crate::subsystem::{self, SiteCode};

impl Server {
    /// Gives the requests of an instance to other versions. They start next to those that run, and get requests when
    /// each has a mirror; those that run then drain. Where that fails, nothing has changed.
    pub(super) async fn deploy(
        &mut self,
        request: Deploy,
        watch: &mut Watch,
    ) -> Result<Deployment, DeployRefusal> {
        let began = Instant::now();
        let name = request.instance.clone();
        let running = self.running.load_full();
        let running = running.ok_or(DeployRefusal::Stopping)?;
        let site = running.config.instances.get(&name);
        if site.ok_or(DeployRefusal::NoInstance)?.code.is_none() {
            return Err(DeployRefusal::NoCode);
        }
        let settings = running.config.deployments.as_ref();
        let (Some(settings), Some(store)) = (settings, self.deployments.get()) else {
            return Err(DeployRefusal::NotConfigured);
        };
        let (keep, store) = (settings.keep, Arc::clone(store));
        // No version is removed meanwhile.
        let changing = store.changing.lock().await;

        // What the next deployment is.
        let current = in_store(&store, {
            let name = name.clone();
            move |store| store.deployment(&name)
        })
        .await?;
        if request
            .replaces
            .is_some_and(|number| number != current.number)
        {
            return Err(DeployRefusal::OtherNumber(current.number));
        }
        let (traffic, sticky) = wanted(request.change, &current)?;
        let next = current.next(traffic, sticky, request.now, request.caller)?;
        let unknown = in_store(&store, {
            let (name, traffic) = (name.clone(), next.traffic.clone());
            move |store| unknown_version(store, &name, &traffic)
        });
        if let Some(version) = unknown.await? {
            return Err(DeployRefusal::NoVersion(version));
        }

        // It is in use before it is on the disk: after a crash in between, what was in use before is.
        self.give(&running, &store, &name, &next).await?;
        let storing = in_store(&store, {
            let (name, next) = (name.clone(), next.clone());
            move |store| store.set_deployment(&name, &next)
        });
        if let Err(error) = storing.await {
            self.give(&running, &store, &name, &current).await?;
            return Err(error);
        }

        // It is done. What follows changes nothing of that.
        let took_ms = began.elapsed().as_millis() as u64;
        let versions = next.traffic.iter();
        let versions: Vec<_> = versions
            .map(|one| format!("{} {} %", one.version, one.percent))
            .collect();
        let versions = versions.join(", ");
        tracing::info!(
            instance = name,
            took_ms,
            number = next.number,
            "deployed: {versions}"
        );
        self.logs.audit.record(|| {
            Record::new("deployed")
                .text("instance", &name)
                .text("versions", &versions)
                .number("number", next.number)
                .text("caller_name", &next.caller)
        });
        let pruning = in_store(&store, {
            let next = next.clone();
            move |store| store.prune(&name, keep, &next)
        });
        if let Err(DeployRefusal::Store(error)) = pruning.await {
            tracing::warn!(%error, "old versions cannot be removed");
        }
        drop(changing);
        self.rewatch(watch, self.sources.clone()).await;
        Ok(next)
    }

    /// Takes the versions of a deployment into use; everything else goes on as it runs.
    async fn give(
        &mut self,
        running: &Running,
        store: &Arc<DeploymentStore>,
        name: &str,
        deployment: &Deployment,
    ) -> Result<(), DeployRefusal> {
        let refused = |error: ServeError| DeployRefusal::Refused(error.to_string());
        let reading = {
            let (store, config) = (Arc::clone(store), Arc::clone(&running.config));
            let (name, deployment) = (name.to_owned(), deployment.clone());
            move || {
                let site = config.instances.get(&name)?;
                let Deployment {
                    traffic, sticky, ..
                } = deployment;
                Some(code::read(Some(&store), &name, site, &traffic, sticky))
            }
        };
        let read = tokio::task::spawn_blocking(reading).await;
        let read = read.map_err(|error| DeployRefusal::Refused(error.to_string()))?;
        let read = read.ok_or(DeployRefusal::NoInstance)?.map_err(refused)?;
        let others = running.traffic.keys();
        let others = others.map(|name| (name.clone(), SiteCode::AsItRuns));
        let mut code: BTreeMap<_, _> = others.collect();
        code.insert(name.to_owned(), read);
        let config = Arc::clone(&running.config);
        let applied = subsystem::apply(&mut self.subsystems, &self.running, config, code).await;
        applied.map(drop).map_err(refused)
    }
}

/// The shares that a change asks for.
fn wanted(
    change: DeployChange,
    current: &Deployment,
) -> Result<(Vec<Share>, Sticky), DeployRefusal> {
    match change {
        DeployChange::Traffic { shares, sticky } => Ok((shares, sticky)),
        DeployChange::BackTo(version) => {
            let all = Share {
                version,
                percent: 100,
            };
            Ok((vec![all], Sticky::None))
        }
        DeployChange::Back => {
            let before = current.before().ok_or(DeployRefusal::NothingBefore)?;
            Ok((before.traffic.clone(), before.sticky.clone()))
        }
    }
}

/// The first version that is not there.
fn unknown_version(
    store: &DeploymentStore,
    name: &str,
    traffic: &[Share],
) -> Result<Option<VersionRef>, crate::deployments::DeployError> {
    for share in traffic {
        if let VersionRef::Uploaded(id) = &share.version
            && store.version(name, id)?.is_none()
        {
            return Ok(Some(share.version.clone()));
        }
    }
    Ok(None)
}

/// Does what may wait for the disk.
async fn in_store<T: Send + 'static>(
    store: &Arc<DeploymentStore>,
    work: impl FnOnce(&DeploymentStore) -> Result<T, crate::deployments::DeployError> + Send + 'static,
) -> Result<T, DeployRefusal> {
    let store = Arc::clone(store);
    let working = tokio::task::spawn_blocking(move || work(&store)).await;
    let done = working.map_err(|error| DeployRefusal::Refused(error.to_string()))?;
    done.map_err(DeployRefusal::Store)
}
