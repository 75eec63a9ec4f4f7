//! Sites: those that changed are started next to the old ones, which end when the new ones are in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use stockade_state::Store;
use tokio::task::JoinSet;

use super::{Change, Prepared, Preparing, Reload, SiteCode, Subsystem};
use crate::deployments::{Sticky, VersionRef};
use crate::directory::{Traffic, TrafficShare};
use crate::error::ServeError;
use crate::observe::{EgressMetrics, GrantMetrics};
use crate::running::{Running, SiteTraffic};
use crate::site::{MadeWith, Site, SiteContext, grants_folder, with_assets};

pub(crate) struct Sites {
    pub(crate) context: Arc<SiteContext>,
    pub(crate) egress: Arc<EgressMetrics>,
    pub(crate) grants: Arc<GrantMetrics>,
    pub(crate) drains: Drains,
    /// The number of the last site that was started: no two have the same.
    pub(crate) number: u64,
}

/// Sites that end. A clone is the same set; the last one that is dropped cuts short those that have not ended.
#[derive(Clone, Default)]
pub(crate) struct Drains(Arc<Mutex<JoinSet<()>>>);

impl Drains {
    /// Lets what runs in the site end until `deadline`. With `handover`, requests that found the site just now
    /// still enter it.
    pub(crate) fn retire(&self, site: Arc<Site>, deadline: Duration, handover: bool) {
        let mut ending = self.0.lock();
        while ending.try_join_next().is_some() {}
        ending.spawn(async move { site.retire(deadline, handover).await });
    }

    /// Waits until all have ended.
    pub(crate) async fn wait(&self) {
        loop {
            let mut ending = std::mem::take(&mut *self.0.lock());
            if ending.is_empty() {
                return;
            }
            while ending.join_next().await.is_some() {}
        }
    }
}

struct PreparedSites<'a> {
    sites: &'a Sites,
    /// Sites that are not in use yet.
    started: Vec<Arc<Site>>,
}

impl Drop for PreparedSites<'_> {
    fn drop(&mut self) {
        for site in self.started.drain(..) {
            self.sites.drains.retire(site, Duration::ZERO, false);
        }
    }
}

impl Subsystem for Sites {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let mut number = self.number;
            // A number is never used again, not even after a reload that was refused.
            let most: usize = (reload.code.values())
                .map(|code| match code {
                    SiteCode::AsItRuns => 0,
                    SiteCode::Read { shares, .. } => shares.len(),
                })
                .sum();
            self.number += (most + reload.next.config.instances.len()) as u64;
            let mut prepared = PreparedSites {
                sites: self,
                started: Vec::new(),
            };
            let config = Arc::clone(&reload.next.config);
            let store = reload.next.store.clone();
            let store = store.map(|store| Arc::new(store) as Arc<dyn Store>);
            let message = config.limits.websocket_message;
            let made_with = MadeWith {
                store: store.as_ref(),
                grants_folder: &grants_folder(&config.state),
                socket_message: message,
            };
            for (name, site_config) in &config.instances {
                let old = reload.old.as_ref().and_then(|old| old.traffic.get(name));
                let (shares, sticky) = match (reload.code.remove(name), old) {
                    (Some(SiteCode::AsItRuns), Some(old)) => {
                        reload.next.add(name, old.clone());
                        continue;
                    }
                    (Some(SiteCode::Read { shares, sticky }), _) => {
                        let shares = shares.into_iter();
                        let shares = shares
                            .map(|one| (one.percent, one.version, Some(one.files), one.assets));
                        (shares.collect(), sticky)
                    }
                    _ => (vec![(100, VersionRef::File, None, None)], Sticky::None),
                };
                let mut traffic = SiteTraffic {
                    shares: Vec::new(),
                    sticky,
                };
                // Scheduled runs are those of one version.
                let mut quiet = site_config.clone();
                quiet.crons.clear();
                for (at, (percent, version, code, assets)) in shares.into_iter().enumerate() {
                    let site_config = if at == 0 { site_config } else { &quiet };
                    let site_config = &with_assets(site_config, assets);
                    let known = old.iter().flat_map(|old| old.sites());
                    let same = known.into_iter().find(|site| {
                        site.version == version && site.is(site_config, code.as_ref(), message)
                    });
                    let site = match same {
                        Some(same) => Arc::clone(same),
                        None => {
                            number += 1;
                            let starting = Site::start(
                                &prepared.sites.context,
                                &made_with,
                                site_config,
                                version,
                                code,
                                number,
                            );
                            let started = starting.await;
                            let started = started.map_err(|why| ServeError::site(name, why))?;
                            let site = Arc::new(started);
                            prepared.started.push(Arc::clone(&site));
                            site
                        }
                    };
                    traffic.shares.push((percent, site));
                }
                reload.next.add(name, traffic);
            }
            // At the server's start requests wait for mirrors instead, so that one broken site does not keep the
            // others down.
            if reload.old.is_some() {
                first_mirrors(&prepared.started).await?;
            }
            Ok(Box::new(prepared) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

/// Waits until each of these sites has a mirror.
async fn first_mirrors(started: &[Arc<Site>]) -> Result<(), ServeError> {
    let mut waiting = JoinSet::new();
    for site in started {
        let site = Arc::clone(site);
        waiting.spawn(async move {
            let ready = site.ready().await;
            ready.map_err(|why| ServeError::site(&site.config.name, why))
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

impl Prepared for PreparedSites<'_> {
    /// Requests find the new sites from now on, and until the routes have changed too, those that are removed.
    fn commit(&mut self, change: &Change) {
        self.started.clear();
        let mut all = HashMap::new();
        for running in change.old.iter().chain([&change.next]) {
            all.extend(answering(running));
        }
        self.sites.context.directory.replace(all);
    }

    fn release<'a>(&'a mut self, change: &'a Change) -> BoxFuture<'a, ()> {
        let Change { old, next } = change;
        let context = &self.sites.context;
        context.directory.replace(answering(next).collect());
        let none = BTreeMap::new();
        let old = old.as_ref().map_or(&none, |old| &old.traffic);
        for (name, traffic) in old {
            let now = next.traffic.get(name);
            if now.is_none() {
                context.brokers.forget(name);
                self.sites.egress.forget(name);
                context.logs.audit.forget(name);
                self.sites.grants.forget(name);
                context.grants.forget(name);
            }
            for site in traffic.sites() {
                let stays = now.is_some_and(|now| now.sites().any(|now| Arc::ptr_eq(now, site)));
                if !stays {
                    let deadline = next.config.drain_timeout;
                    self.sites.drains.retire(Arc::clone(site), deadline, true);
                }
            }
        }
        context.metrics.keep(|name| next.sites.contains_key(name));
        ready(()).boxed()
    }
}

fn answering(running: &Running) -> impl Iterator<Item = (String, Arc<Traffic>)> {
    let sites = running.traffic.iter();
    sites.map(|(name, traffic)| {
        let shares = traffic.shares.iter().map(|(percent, site)| TrafficShare {
            version: site.version.clone(),
            percent: *percent,
            answering: Arc::clone(&site.answering),
            counts: Arc::clone(&site.counts),
        });
        let traffic = Traffic::new(shares.collect(), traffic.sticky.clone());
        (name.clone(), Arc::new(traffic))
    })
}
