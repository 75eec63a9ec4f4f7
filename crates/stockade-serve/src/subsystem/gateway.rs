//! Listeners and routes.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use stockade_gateway::{Gateway, PreparedReload, Route, RouteTable, StreamHandler, TraceRule};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::directory::{Directory, SiteTarget};
use crate::error::ServeError;
use crate::plan;
use crate::running::Running;
use crate::streams::SiteStreams;

pub(crate) struct Listeners {
    pub(crate) gateway: Gateway,
    pub(crate) directory: Arc<Directory>,
}

struct PreparedListeners<'a> {
    /// Taken when it is committed.
    next: Option<PreparedReload<'a>>,
    /// Waits until the listeners that are gone have given their addresses back.
    closing: BoxFuture<'static, ()>,
}

impl Subsystem for Listeners {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let next = &reload.next;
            let table = table(next, &self.directory)?;
            let mut listeners = plan::gateway::listeners(&next.config);
            for (listener, tls) in listeners.iter_mut().zip(&next.listener_tls) {
                listener.tls.clone_from(tls);
            }
            for (listener, config) in listeners.iter_mut().zip(&next.config.listeners) {
                listener.streams = config.connect.as_ref().map(|name| {
                    let streams = SiteStreams::new(name.clone(), config, &self.directory);
                    StreamHandler(Arc::new(streams))
                });
            }
            let limits = plan::gateway::limits(&next.config.limits);
            let prepared = self.gateway.prepare(listeners, table, limits).await?;
            Ok(Box::new(PreparedListeners {
                next: Some(prepared),
                closing: ready(()).boxed(),
            }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

impl Prepared for PreparedListeners<'_> {
    fn commit(&mut self, _: &Change) {
        if let Some(next) = self.next.take() {
            self.closing = next.commit().boxed();
        }
    }

    fn release<'a>(&'a mut self, _: &'a Change) -> BoxFuture<'a, ()> {
        (&mut self.closing).boxed()
    }
}

fn table(next: &Running, directory: &Arc<Directory>) -> Result<RouteTable, ServeError> {
    let config = &next.config;
    let sites = config
        .instances
        .values()
        .filter(|site| !site.urls.is_empty());
    let routes = sites.map(|site| {
        let target = Arc::new(SiteTarget {
            name: site.name.clone(),
            directory: Arc::clone(directory),
        });
        let patterns = site.urls.iter().map(plan::gateway::pattern).collect();
        let mut route = Route::new(&site.name, patterns, target);
        plan::gateway::route(site, &mut route);
        route.client = plan::tls::rule(config, site);
        if let Some(auth) = &site.auth {
            // Without the keys nothing is let in: there is no server then.
            let keys = next.keys.clone().ok_or(ServeError::Fixed("api_keys"))?;
            route.api_key = Some(Arc::new(plan::gateway::key_rule(&site.name, auth, keys)?));
        }
        Ok(route)
    });
    let mut options = plan::gateway::table_options(config);
    options.acme = next.tls.over_http();
    if let (Some(traced), Some(tracing)) = (&next.traced, &config.tracing) {
        options.tracing = Some(TraceRule {
            tracing: traced.tracing.clone(),
            parents: plan::tracing::parents(tracing),
        });
    }
    let routes = routes.collect::<Result<_, ServeError>>()?;
    Ok(RouteTable::new(routes, options)?)
}
