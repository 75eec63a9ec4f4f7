//! Taking a configuration into use, the first one or another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use stockade_config::{Config, Loaded};
use stockade_gateway::{Gateway, Listener, Route, Table};
use stockade_state::{SqliteOptions, SqliteStore, Store};
use stockade_tls::TlsStore;
use stockade_transpile::ModuleFiles;
use tokio::task::JoinSet;

use super::{ServeError, Server};
use crate::directory::SiteTarget;
use crate::log::{Destination, Sink};
use crate::observe::{AccessPolicy, GatewayObserver, LogPolicy};
use crate::plan;
use crate::site::{self, Site};
use crate::status::{Status, StatusListener};
use crate::tls::TlsStores;

/// What changed.
pub(super) struct Applied {
    pub(super) added: Vec<String>,
    pub(super) changed: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) unchanged: usize,
}

/// What becomes of the listener for metrics.
enum StatusChange {
    Keep(stockade_config::Metrics),
    Open(stockade_config::Metrics, StatusListener),
    Close,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (word, names) in [
            ("added", &self.added),
            ("changed", &self.changed),
            ("removed", &self.removed),
        ] {
            if !names.is_empty() {
                write!(f, "{word}: {}; ", names.join(", "))?;
            }
        }
        write!(f, "unchanged: {}", self.unchanged)
    }
}

/// What is logged of requests and guests.
pub(super) fn log_policy(config: &Config) -> Result<LogPolicy, ServeError> {
    let logging = &config.logging;
    let format = plan::logging::in_a_file(logging.format);
    let access = logging.access.as_ref().map(|access| {
        let sink = access.file.as_ref().map(|path| {
            Sink::start(Destination::File(path.clone()), format).map_err(|source| ServeError::Log {
                path: path.clone(),
                source,
            })
        });
        Ok::<_, ServeError>(AccessPolicy {
            sink: sink.transpose()?,
            query: access.query,
            client_address: access.client_address,
        })
    });
    Ok(LogPolicy {
        access: access.transpose()?,
        console: logging.console.clone(),
        redaction: plan::logging::redaction(config),
    })
}

/// Reads the code of all sites.
async fn codes(config: &Config) -> Result<BTreeMap<String, Option<ModuleFiles>>, ServeError> {
    let sites: Vec<_> = config.instances.values().cloned().collect();
    let reading = tokio::task::spawn_blocking(move || {
        let read = sites.into_iter().map(|config| match site::code(&config) {
            Ok(code) => Ok((config.name, code)),
            Err(source) => Err(ServeError::Site {
                name: config.name,
                source: Box::new(source),
            }),
        });
        read.collect()
    });
    reading.await.map_err(|error| ServeError::System {
        what: "reading code",
        source: std::io::Error::other(error),
    })?
}

impl Server {
    /// Takes a configuration into use. Where this fails nothing has changed.
    pub(super) async fn apply(&mut self, loaded: &Loaded) -> Result<Applied, ServeError> {
        let config = &loaded.config;
        self.refuse_fixed(config)?;
        let (tls, stores) = {
            let now = self.now.tls.load_full();
            now.load(config).await?
        };
        let policy = log_policy(config)?;
        let mut codes = codes(config).await?;
        let store = self.store_for(config).await?;
        let status = self.status_for(config).await?;
        let old = self.now.sites.load_full();
        let mut sites = BTreeMap::new();
        let mut started = Vec::new();
        for (name, site_config) in &config.instances {
            let code = codes.remove(name).flatten();
            let message = config.limits.websocket_message;
            if let Some(same) = old
                .get(name)
                .filter(|site| site.is(site_config, code.as_ref(), message))
            {
                sites.insert(name.clone(), Arc::clone(same));
                continue;
            }
            self.next += 1;
            let starting = Site::start(
                &self.shared,
                store.as_ref(),
                site_config,
                code,
                message,
                self.next,
            );
            match starting.await {
                Ok(site) => {
                    let site = Arc::new(site);
                    started.push(Arc::clone(&site));
                    sites.insert(name.clone(), site);
                }
                Err(source) => {
                    self.discard(started);
                    return Err(ServeError::Site {
                        name: name.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
        let first = self.now.config.load().is_none();
        let swapped = match self.first_mirrors(&started, first).await {
            Ok(()) => self.swap(config, (&tls, stores), &old, &sites).await,
            Err(error) => Err(error),
        };
        if let Err(error) = swapped {
            self.discard(started);
            return Err(error);
        }
        let applied = compare(&old, &sites);
        // From here on nothing can fail but the log's own file, which then stays as it was.
        if let Err(error) = self.now.logs.log.change(&plan::logging::options(config)) {
            tracing::error!(%error, "the log stays where it was");
        }
        self.now.logs.policy.store(Arc::new(policy));
        self.now.tls.load().retire(&tls);
        self.now.tls.store(Arc::new(tls));
        self.now.config.store(Some(Arc::new(config.clone())));
        self.now.sites.store(Arc::new(sites));
        self.change_status(status);
        for name in &applied.removed {
            self.shared.brokers.forget(name);
            self.audit.forget(name);
        }
        let wanted = |name: &str| config.instances.contains_key(name);
        self.now.metrics.sites.keep(wanted);
        for (name, site) in old.iter() {
            let kept = self.now.sites.load();
            if !kept.get(name).is_some_and(|now| Arc::ptr_eq(now, site)) {
                self.retire(Arc::clone(site), config.drain_timeout, true);
            }
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(applied)
    }

    /// What needs a restart.
    fn refuse_fixed(&self, config: &Config) -> Result<(), ServeError> {
        let now = self.now.config.load();
        if let Some(now) = &*now
            && now.control != config.control
        {
            return Err(ServeError::Fixed("control"));
        }
        if let Some((path, ..)) = &self.store
            && *path != config.state
        {
            return Err(ServeError::Fixed("state"));
        }
        Ok(())
    }

    /// The store, opened for the first site that needs it.
    async fn store_for(&mut self, config: &Config) -> Result<Option<Arc<dyn Store>>, ServeError> {
        if let Some((.., store)) = &self.store {
            return Ok(Some(Arc::clone(store)));
        }
        if !config.instances.values().any(|site| site.state.is_some()) {
            return Ok(None);
        }
        let options = SqliteOptions::new(config.state.clone());
        let opening = tokio::task::spawn_blocking(move || SqliteStore::open(options));
        let store = opening.await.map_err(|error| ServeError::System {
            what: "opening the shared state",
            source: std::io::Error::other(error),
        })??;
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        self.now.store.store(Some(Arc::new(store.clone())));
        self.store = Some((config.state.clone(), store, Arc::clone(&shared)));
        Ok(Some(shared))
    }

    /// What becomes of the listener for metrics. Another one is opened here.
    async fn status_for(&self, config: &Config) -> Result<StatusChange, ServeError> {
        let now = self.status.as_ref().map(|(metrics, _)| metrics);
        let Some(metrics) = &config.metrics else {
            return Ok(StatusChange::Close);
        };
        if now.is_some_and(|now| now.listen == metrics.listen) {
            return Ok(StatusChange::Keep(metrics.clone()));
        }
        let status: Arc<dyn Status> = self.now.clone();
        let started = StatusListener::start(metrics.listen, metrics.path.clone(), status).await;
        let listener = started.map_err(|source| ServeError::Status {
            address: metrics.listen,
            source,
        })?;
        Ok(StatusChange::Open(metrics.clone(), listener))
    }

    fn change_status(&mut self, change: StatusChange) {
        match change {
            StatusChange::Keep(metrics) => {
                if let Some((now, listener)) = &mut self.status {
                    listener.move_to(metrics.path.clone());
                    *now = metrics;
                }
            }
            StatusChange::Open(metrics, listener) => self.status = Some((metrics, listener)),
            StatusChange::Close => self.status = None,
        }
    }

    /// Waits until each site that was started has a mirror. At the server's start requests wait instead,
    /// so that one broken site does not keep the others down.
    async fn first_mirrors(&self, started: &[Arc<Site>], first: bool) -> Result<(), ServeError> {
        if first {
            return Ok(());
        }
        let mut waiting = JoinSet::new();
        for site in started {
            let site = Arc::clone(site);
            waiting.spawn(async move {
                site.ready().await.map_err(|source| ServeError::Site {
                    name: site.config.name.clone(),
                    source: Box::new(source),
                })
            });
        }
        while let Some(ready) = waiting.join_next().await {
            ready.map_err(|error| ServeError::System {
                what: "starting a site",
                source: std::io::Error::other(error),
            })??;
        }
        Ok(())
    }

    /// Has the gateway use new routes and listeners. Names of sites that go are known until it does.
    async fn swap(
        &self,
        config: &Config,
        (tls, stores): (&TlsStores, Vec<Option<Arc<TlsStore>>>),
        old: &BTreeMap<String, Arc<Site>>,
        new: &BTreeMap<String, Arc<Site>>,
    ) -> Result<(), ServeError> {
        let answering = |sites: &BTreeMap<String, Arc<Site>>| {
            let pairs = sites.iter();
            let pairs = pairs.map(|(name, site)| (name.clone(), Arc::clone(&site.answering)));
            pairs.collect::<HashMap<_, _>>()
        };
        let table = self.table(config, tls)?;
        let listeners = listeners(config, stores);
        let limits = plan::gateway::limits(&config.limits);
        let sites = &self.now.metrics.sites;
        let directory = &self.shared.directory;
        let mut all = answering(old);
        all.extend(answering(new));
        directory.replace(all);
        let figures = new.keys().map(|name| sites.site(name));
        self.gateway_figures.set_sites(figures);
        let gateway = self.now.gateway.lock().clone();
        let swapped = match gateway {
            Some(gateway) => gateway.reload(listeners, table, limits).await,
            None => {
                let observer = GatewayObserver::new(
                    Arc::clone(&self.now.logs),
                    Arc::clone(&self.gateway_figures),
                );
                let starting = Gateway::start(listeners, table, limits, Arc::new(observer));
                starting
                    .await
                    .map(|gateway| *self.now.gateway.lock() = Some(gateway))
            }
        };
        directory.replace(answering(if swapped.is_ok() { new } else { old }));
        if swapped.is_err() {
            let figures = old.keys().map(|name| sites.site(name));
            self.gateway_figures.set_sites(figures);
        }
        Ok(swapped?)
    }

    fn table(&self, config: &Config, tls: &TlsStores) -> Result<Table, ServeError> {
        let sites = config
            .instances
            .values()
            .filter(|site| !site.urls.is_empty());
        let routes = sites.map(|site| {
            let target = Arc::new(SiteTarget {
                name: site.name.clone(),
                directory: Arc::clone(&self.shared.directory),
            });
            let patterns = site.urls.iter().map(plan::gateway::pattern).collect();
            let mut route = Route::new(&site.name, patterns, target);
            plan::gateway::route(site, &mut route);
            route.client = crate::tls::rule(config, site);
            route
        });
        let mut options = plan::gateway::table_options(config);
        options.acme = tls.over_http();
        Ok(Table::new(routes.collect(), options)?)
    }

    /// Ends sites that never came into use.
    fn discard(&mut self, started: Vec<Arc<Site>>) {
        for site in started {
            self.retire(site, Duration::ZERO, false);
        }
    }

    pub(super) fn retire(&mut self, site: Arc<Site>, deadline: Duration, handover: bool) {
        // Those that are done.
        while self.drains.try_join_next().is_some() {}
        self.drains
            .spawn(async move { site.retire(deadline, handover).await });
    }

    /// Refuses what cannot be read from `path` with every mistake.
    pub(super) async fn load(&self) -> Result<Loaded, ServeError> {
        let path = self.options.config.clone();
        let loading = tokio::task::spawn_blocking(move || Config::load(&path));
        let loaded = loading.await.map_err(|error| ServeError::System {
            what: "reading the configuration",
            source: std::io::Error::other(error),
        })?;
        loaded.map_err(ServeError::Config)
    }
}

fn listeners(config: &Config, stores: Vec<Option<Arc<TlsStore>>>) -> Vec<Listener> {
    let mut listeners = plan::gateway::listeners(config);
    for (listener, store) in listeners.iter_mut().zip(stores) {
        listener.tls = store;
    }
    listeners
}

fn compare(old: &BTreeMap<String, Arc<Site>>, new: &BTreeMap<String, Arc<Site>>) -> Applied {
    let mut applied = Applied {
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
        unchanged: 0,
    };
    for (name, site) in new {
        match old.get(name) {
            None => applied.added.push(name.clone()),
            Some(before) if Arc::ptr_eq(before, site) => applied.unchanged += 1,
            Some(_) => applied.changed.push(name.clone()),
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    applied.removed = gone.cloned().collect();
    applied
}
