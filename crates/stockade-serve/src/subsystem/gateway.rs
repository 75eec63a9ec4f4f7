//! Listeners and routes.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use stockade_config::Instance as SiteConfig;
use stockade_gateway::{
    Gateway, Pattern, PreparedReload, Route, RouteTable, StreamHandler, TraceRule,
};
use stockade_http::{HostPattern, PathPattern, Scheme};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::directory::{Directory, SiteTarget};
use crate::error::ServeError;
use crate::plan;
use crate::previews::{self, PreviewTarget, Previews};
use crate::running::Running;
use crate::streams::SiteStreams;

pub(crate) struct Listeners {
    pub(crate) gateway: Gateway,
    pub(crate) directory: Arc<Directory>,
    pub(crate) previews: Arc<Previews>,
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
            let table = table(next, &self.directory, &self.previews)?;
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

/// A route with the limits of a site, for those that the site lets in.
fn guarded(next: &Running, site: &SiteConfig, mut route: Route) -> Result<Route, ServeError> {
    plan::gateway::route(site, &mut route);
    route.client = plan::tls::rule(&next.config, site);
    if let Some(auth) = &site.auth {
        let keys = match plan::gateway::accepts_keys(site) {
            // Without the keys nothing is let in: there is no server then.
            true => Some(next.keys.clone().ok_or(ServeError::Fixed("api_keys"))?),
            false => None,
        };
        let fetched = next.token_keys.get(&site.name);
        let fetched = fetched.map(|fetched| Arc::clone(&fetched.keys));
        let rule = plan::gateway::key_rule(&site.name, auth, keys, fetched)?;
        route.api_key = Some(Arc::new(rule));
    }
    if let Some(counters) = &next.counters {
        route.limits = plan::gateway::rate_limits(&next.config, site, counters).map(Arc::new);
    }
    Ok(route)
}

fn table(
    next: &Running,
    directory: &Arc<Directory>,
    previews: &Arc<Previews>,
) -> Result<RouteTable, ServeError> {
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
        guarded(next, site, Route::new(&site.name, patterns, target))
    });
    let settings = config.deployments.as_ref();
    let domain = settings.and_then(|settings| settings.preview_domain.as_deref());
    // An instance that clients do not reach has no previews that they reach.
    let with_code =
        (config.instances.values()).filter(|site| site.code.is_some() && !site.urls.is_empty());
    let with_code = domain.into_iter().flat_map(|domain| {
        let sites = with_code.clone();
        sites.map(move |site| (site, previews::host(&site.name, domain)))
    });
    let of_previews = with_code.map(|(site, host)| {
        let urls = &site.urls;
        let only_https = urls.iter().all(|url| url.scheme == Some(Scheme::Https));
        let pattern = Pattern {
            scheme: only_https.then_some(Scheme::Https),
            host: HostPattern::Below(host.clone()),
            port: None,
            path: PathPattern::Under(String::new()),
        };
        let target = Arc::new(PreviewTarget {
            name: site.name.clone(),
            suffix: format!(".{host}"),
            previews: Arc::clone(previews),
        });
        guarded(next, site, Route::new(&site.name, vec![pattern], target))
    });
    let routes = routes.chain(of_previews);
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
