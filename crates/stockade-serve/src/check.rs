//! Everything that `serve` would refuse before it starts anything, and code that could not run, found without
//! starting anything.

use std::path::Path;
use std::sync::Arc;

use stockade_broker::LogAudit;
use stockade_config::{Config, Diagnostic};
use stockade_gateway::{Route, Table};
use stockade_policy::{NODE_MODULES, SITE_MODULES};

use crate::brokers::Brokers;
use crate::directory::{Directory, SiteTarget};
use crate::error::ServeError;
use crate::plan;
use crate::site::{self, SiteError};

/// What a configuration that can be served is to be warned of.
#[derive(Debug, Default)]
pub struct Checked {
    /// Of the file itself.
    pub warnings: Vec<Diagnostic>,
    /// Of files that it names, such as a certificate that ends soon.
    pub remarks: Vec<String>,
}

/// Modules that a site's runtime has itself.
fn importable() -> Vec<String> {
    let node = NODE_MODULES.iter();
    let node = node.flat_map(|name| [(*name).to_owned(), format!("node:{name}")]);
    let site = SITE_MODULES.iter().map(|name| (*name).to_owned());
    node.chain(site).collect()
}

/// Checks a configuration with all files that it names: code and what it imports, assets, secrets,
/// certificates and keys. A certificate that is not valid now is an error, though `serve` would start and
/// refuse only the clients that need it.
///
/// # Errors
/// What is wrong: first everything that is wrong with the file itself, and where there are none, everything that is
/// wrong with the files it names.
pub async fn check(path: &Path) -> Result<Checked, Vec<ServeError>> {
    let loaded = Config::load(path).map_err(|diagnostics| vec![ServeError::Config(diagnostics)])?;
    let config = &loaded.config;
    let brokers = Brokers::new(Arc::new(LogAudit::default()));
    let importable = importable();
    let importable: Vec<&str> = importable.iter().map(String::as_str).collect();
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
                let mistakes = files.iter().flat_map(|files| files.mistakes(&importable));
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
        if let Err(error) = what_it_may_use(&brokers, site) {
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
    let remarks = match crate::tls::check(config).await {
        Ok(remarks) => remarks,
        Err(errors) => {
            wrong.extend(errors.into_iter().map(ServeError::from));
            Vec::new()
        }
    };
    if wrong.is_empty() {
        Ok(Checked {
            warnings: loaded.warnings,
            remarks,
        })
    } else {
        Err(wrong)
    }
}

/// What is left of a site when its code and its files are good.
fn what_it_may_use(brokers: &Brokers, site: &stockade_config::Instance) -> Result<(), SiteError> {
    let broker = brokers.with_roots(&site.data_guard.ca)?;
    site::secrets(&broker, site)?;
    broker.sockets(&site.name, plan::sockets::policy(&site.sockets))?;
    Ok(())
}
