//! Everything that `serve` would refuse before it starts anything, and code that could not run, found without
//! starting anything.

use std::path::Path;
use std::sync::Arc;

use stockade_broker::LogAudit;
use stockade_config::{Config, Mistake, Tls};
use stockade_gateway::{Route, Table};

use crate::brokers::Brokers;
use crate::directory::{Directory, SiteTarget};
use crate::plan;
use crate::server::ServeError;
use crate::site::{self, SiteError};
use crate::tls::TlsStores;

/// Modules that a site's runtime has itself.
const IMPORTABLE: &[&str] = &["cloudflare:workers"];

/// Checks a configuration with all files that it names: code and what it imports, assets, secrets,
/// certificates and keys. Gives the warnings.
///
/// # Errors
/// What is wrong: first all mistakes of the file itself, and where there are none, everything that is
/// wrong with the files it names.
pub async fn check(path: &Path) -> Result<Vec<Mistake>, Vec<ServeError>> {
    let loaded = Config::load(path).map_err(|mistakes| vec![ServeError::Config(mistakes)])?;
    let config = &loaded.config;
    let brokers = Brokers::new(Arc::new(LogAudit::default()));
    let mut wrong = Vec::new();
    let mut routes = Vec::new();
    let directory = Arc::new(Directory::default());
    for (name, site) in &config.instances {
        let mut of_site = |error: SiteError| {
            wrong.push(ServeError::Site {
                name: name.clone(),
                source: Box::new(error),
            });
        };
        match site::code(site) {
            Ok(files) => {
                let mistakes = files.iter().flat_map(|files| files.mistakes(IMPORTABLE));
                mistakes.for_each(|mistake| of_site(mistake.into()));
            }
            Err(error) => of_site(error),
        }
        if let Some(Err(error)) = site
            .assets
            .as_ref()
            .map(|assets| plan::gateway::assets(assets, site.code.is_some()))
        {
            of_site(error.into());
        }
        if let Err(error) = what_it_may_use(&brokers, site, config.limits.websocket_message) {
            of_site(error);
        }
        let patterns = site.urls.iter().map(plan::gateway::pattern).collect();
        let target = SiteTarget {
            name: name.clone(),
            directory: Arc::clone(&directory),
        };
        routes.push(Route::new(name, patterns, Arc::new(target)));
    }
    if let Err(error) = Table::new(routes, plan::gateway::table_options(config)) {
        wrong.push(error.into());
    }
    let mut unwatched = config.clone();
    unwatched.watch = false;
    // Nothing is asked of an authority.
    for listener in &mut unwatched.listeners {
        if let Some(tls) = listener.tls.as_ref().filter(|tls| tls.acme.is_some()) {
            let without = Tls {
                acme: None,
                ..Tls::clone(tls)
            };
            listener.tls = (!without.certificates.is_empty()).then(|| Arc::new(without));
        }
    }
    if let Err(error) = TlsStores::default().load(&unwatched).await {
        wrong.push(error.into());
    }
    if wrong.is_empty() {
        Ok(loaded.warnings)
    } else {
        Err(wrong)
    }
}

/// What is left of a site when its code and its files are good.
fn what_it_may_use(
    brokers: &Brokers,
    site: &stockade_config::Instance,
    socket_message: usize,
) -> Result<(), SiteError> {
    let broker = brokers.with_roots(&site.data_guard.ca)?;
    site::secrets(&broker, site)?;
    plan::egress::policy(&site.data_guard, socket_message)?;
    plan::instance::options(site, serde_json::Map::new(), None, socket_message)?;
    Ok(())
}
