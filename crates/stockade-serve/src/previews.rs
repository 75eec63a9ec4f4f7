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
const MOST_PREVIEWS: usize = 8;

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
    live: Mutex<Vec<Live>>,
    /// Held while one is started.
    starting: tokio::sync::Mutex<()>,
    /// The number of the last preview that was started. Those of sites begin at 1.
    number: AtomicU64,
}

struct Live {
    instance: String,
    /// What it was started with.
    config: Arc<Config>,
    site: Arc<Site>,
    used: Instant,
}

/// A preview that runs.
pub(crate) struct LivePreview {
    pub(crate) site: Arc<Site>,
    /// Where clients reach it; `None` once the configuration names no domain for previews.
    pub(crate) host: Option<String>,
    /// How long ago its last request came.
    pub(crate) idle: Duration,
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
            live: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
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
        // One that runs does not wait for another that starts.
        if let Some(site) = self.live(&running, name, &version) {
            return Ok(site);
        }
        // One is started after the other, and perhaps this one meanwhile.
        let _starting = self.starting.lock().await;
        if let Some(site) = self.live(&running, name, &version) {
            return Ok(site);
        }
        let store = self.deployments.get().ok_or(NoPreview::Missing)?;
        let (files, assets) = read(store, name, config, id).await?;
        let config = &with_assets(config, assets);
        self.make_room();
        let site = self.start(&running, config, version, files).await;
        let site = Arc::new(site.map_err(NoPreview::Failed)?);
        self.live.lock().push(Live {
            instance: name.to_owned(),
            config: Arc::clone(&running.config),
            site: Arc::clone(&site),
            used: Instant::now(),
        });
        tokio::spawn(Arc::clone(self).end_when_idle(Arc::clone(&site)));
        Ok(site)
    }

    /// The site of a preview that runs, for another request. One with another configuration than what runs ends.
    fn live(&self, running: &Running, name: &str, version: &VersionRef) -> Option<Arc<Site>> {
        let mut live = self.live.lock();
        let is_it = |one: &Live| one.instance == name && one.site.version == *version;
        let at = live.iter().position(is_it)?;
        match live.get_mut(at) {
            Some(one) if Arc::ptr_eq(&one.config, &running.config) => {
                one.used = Instant::now();
                Some(Arc::clone(&one.site))
            }
            _ => {
                self.end(live.swap_remove(at));
                None
            }
        }
    }

    /// Ends the preview that was used longest ago, where there are as many as there may be.
    fn make_room(&self) {
        let mut live = self.live.lock();
        if live.len() >= MOST_PREVIEWS {
            let ages = live.iter().map(|one| one.used).enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, used)| *used) {
                self.end(live.swap_remove(oldest));
            }
        }
    }

    /// The previews of an instance that run, by their versions.
    pub(crate) fn of(&self, name: &str) -> Vec<LivePreview> {
        let running = self.running.load();
        let settings = running
            .as_ref()
            .and_then(|running| running.config.deployments.as_ref());
        let domain = settings.and_then(|settings| settings.preview_domain.as_deref());
        let live = self.live.lock();
        let of_instance = live.iter().filter(|one| one.instance == name);
        let mut previews: Vec<_> = of_instance
            .map(|one| LivePreview {
                site: Arc::clone(&one.site),
                host: domain.map(|domain| format!("{}.{}", one.site.version, host(name, domain))),
                idle: one.used.elapsed(),
            })
            .collect();
        previews.sort_by_cached_key(|preview| preview.site.version.to_string());
        previews
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
            let mut live = self.live.lock();
            let Some(at) = live.iter().position(|one| Arc::ptr_eq(&one.site, &site)) else {
                return;
            };
            let idle = live.get(at).map(|one| one.used.elapsed());
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
        // What is being started then is among them, too.
        let _starting = self.starting.lock().await;
        for live in self.live.lock().drain(..) {
            self.drains.retire(live.site, deadline, false);
        }
    }
}

/// What the hosts of an instance's previews end with, behind the version and a dot.
pub(crate) fn host(instance: &str, domain: &str) -> String {
    format!("{instance}.{domain}")
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
                Ok(site) => {
                    let response = respond(&site.answering, request).await;
                    site.counts.add(response.status());
                    response
                }
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
