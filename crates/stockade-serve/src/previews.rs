//! Versions that get no requests of an instance, at hosts of their own: `VERSION.INSTANCE.DOMAIN`.
//!
//! Invariants:
//! 1. A preview runs only while it is used, few run at a time, and it has one mirror and no scheduled runs.
//! 2. It has the limits and the grants of its instance, and its requests pass the filters of the instance's own routes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use stockade_config::{Config, Instance as SiteConfig, Scaling};
use stockade_gateway::Target;
use stockade_http::{Body, Problem};
use stockade_state::Store;
use stockade_transpile::ModuleFiles;

use crate::deployments::{DeploymentStore, OpenDeployments, VersionId, VersionRef};
use crate::directory::respond;
use crate::error::SiteError;
use crate::running::{Running, Snapshot};
use crate::site::{MadeWith, Site, SiteContext, assets_of, grants_folder, with_assets};
use crate::subsystem::Drains;

/// Previews that run at the same time. With more, the one that was used longest ago ends.
const MOST: usize = 8;

/// How long a preview runs after its last request.
const IDLE: Duration = Duration::from_secs(300);

/// How long what runs in a preview may take when it ends.
const DRAIN: Duration = Duration::from_secs(10);

/// The previews of all instances.
pub(crate) struct Previews {
    context: Arc<SiteContext>,
    running: Snapshot,
    deployments: OpenDeployments,
    /// Previews that end are among the sites that end, for which a server that stops waits.
    drains: Drains,
    live: tokio::sync::Mutex<Vec<Live>>,
    /// Of the last preview that was started. Those of sites begin at 1.
    number: AtomicU64,
}

struct Live {
    instance: String,
    /// What it was started with.
    config: Arc<Config>,
    site: Arc<Site>,
    used: Mutex<Instant>,
}

/// Why there is no preview.
enum NoPreview {
    Missing,
    Failed(SiteError),
}

impl Previews {
    pub(crate) fn new(
        context: Arc<SiteContext>,
        running: Snapshot,
        deployments: OpenDeployments,
        drains: Drains,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            running,
            deployments,
            drains,
            live: tokio::sync::Mutex::default(),
            number: AtomicU64::new(1 << 63),
        })
    }

    /// The site that runs a version, started if it does not run.
    async fn find(self: &Arc<Self>, name: &str, id: VersionId) -> Result<Arc<Site>, NoPreview> {
        let running = self.running.load_full().ok_or(NoPreview::Missing)?;
        let config = running.config.instances.get(name);
        let config = config.ok_or(NoPreview::Missing)?;
        let version = VersionRef::Uploaded(id.clone());
        let traffic = running.traffic.get(name);
        let mut sites = traffic.iter().flat_map(|traffic| traffic.sites());
        if let Some(site) = sites.find(|site| site.version == version) {
            return Ok(Arc::clone(site));
        }
        // One is started after the other.
        let mut live = self.live.lock().await;
        if let Some(at) = live
            .iter()
            .position(|one| one.instance == name && one.site.version == version)
        {
            if let Some(one) = live.get(at)
                && Arc::ptr_eq(&one.config, &running.config)
            {
                *one.used.lock() = Instant::now();
                return Ok(Arc::clone(&one.site));
            }
            self.end(live.swap_remove(at));
        }
        let store = self.deployments.get().ok_or(NoPreview::Missing)?;
        let (files, assets) = read(store, name, config, id).await?;
        let config = &with_assets(config, assets);
        if live.len() >= MOST {
            let ages = live.iter().map(|one| *one.used.lock()).enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, used)| *used) {
                self.end(live.swap_remove(oldest));
            }
        }
        let site = self.start(&running, config, version, files).await;
        let site = Arc::new(site.map_err(NoPreview::Failed)?);
        live.push(Live {
            instance: name.to_owned(),
            config: Arc::clone(&running.config),
            site: Arc::clone(&site),
            used: Mutex::new(Instant::now()),
        });
        tokio::spawn(Arc::clone(self).end_when_idle(Arc::clone(&site)));
        Ok(site)
    }

    async fn start(
        &self,
        running: &Running,
        config: &SiteConfig,
        version: VersionRef,
        files: ModuleFiles,
    ) -> Result<Site, SiteError> {
        let mut config = config.clone();
        config.crons.clear();
        config.scaling = Scaling::Fixed(1);
        let store = running.store.clone();
        let store = store.map(|store| Arc::new(store) as Arc<dyn Store>);
        let made_with = MadeWith {
            store: store.as_ref(),
            grants_folder: &grants_folder(&running.config.state),
            socket_message: running.config.limits.websocket_message,
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Site::start(
            &self.context,
            &made_with,
            &config,
            version,
            Some(files),
            number,
        )
        .await
    }

    /// Ends a preview when it has not been used for a while.
    async fn end_when_idle(self: Arc<Self>, site: Arc<Site>) {
        loop {
            tokio::time::sleep(IDLE).await;
            let mut live = self.live.lock().await;
            let Some(at) = live.iter().position(|one| Arc::ptr_eq(&one.site, &site)) else {
                return;
            };
            let idle = live.get(at).map(|one| one.used.lock().elapsed());
            if idle.is_some_and(|idle| idle >= IDLE) {
                self.end(live.swap_remove(at));
                return;
            }
        }
    }

    fn end(&self, live: Live) {
        let deadline = live.config.drain_timeout.min(DRAIN);
        self.drains.retire(live.site, deadline, true);
    }

    /// Ends all of them, when the server takes no more requests.
    pub(crate) async fn end_all(&self, deadline: Duration) {
        for live in self.live.lock().await.drain(..) {
            self.drains.retire(live.site, deadline, false);
        }
    }
}

/// Reads the code of a version, and where its assets are.
async fn read(
    store: &Arc<DeploymentStore>,
    name: &str,
    config: &SiteConfig,
    id: VersionId,
) -> Result<(ModuleFiles, Option<PathBuf>), NoPreview> {
    let (store, name, config) = (Arc::clone(store), name.to_owned(), config.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let record = store.version(&name, &id).ok().flatten();
        let record = record.ok_or(NoPreview::Missing)?;
        let folder = store.files_of(&name, &id);
        let entry = record
            .main
            .map_or_else(|| folder.clone(), |main| folder.join(Path::new(&main)));
        let read = ModuleFiles::read(&entry);
        let read = read.map_err(|error| NoPreview::Failed(error.into()))?;
        Ok((read, assets_of(&config, &folder)))
    });
    reading.await.unwrap_or(Err(NoPreview::Missing))
}

/// The previews of one instance, for the gateway.
pub(crate) struct PreviewTarget {
    pub(crate) name: String,
    /// What the host ends with, behind the version.
    pub(crate) suffix: String,
    pub(crate) previews: Arc<Previews>,
}

impl Target for PreviewTarget {
    fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let host = request.uri().host().unwrap_or_default();
        let version = host.strip_suffix(self.suffix.as_str());
        let version = version.and_then(VersionId::parse);
        let (name, previews) = (self.name.clone(), Arc::clone(&self.previews));
        Box::pin(async move {
            let found = match version {
                Some(id) => previews.find(&name, id).await,
                None => Err(NoPreview::Missing),
            };
            match found {
                Ok(site) => respond(&site.answering, request).await,
                Err(NoPreview::Missing) => {
                    let detail = "There is no such version.";
                    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
                }
                Err(NoPreview::Failed(error)) => {
                    tracing::warn!(instance = name, %error, "a preview does not start");
                    let detail = "The version does not start.";
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
                }
            }
        })
    }
}
