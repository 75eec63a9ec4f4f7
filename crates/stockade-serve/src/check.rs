//! Everything that `serve` would refuse before it starts anything, and code that could not run, found without
//! starting anything.

use std::path::Path;
use std::sync::Arc;

use stockade_broker::{EgressLimits, EgressPolicy, LogAudit, SocketPolicy};
use stockade_config::{Config, Diagnostic, Grant};
use stockade_gateway::{Route, RouteTable};
use stockade_grants::{Finding, Granting};
use stockade_limits::{NODE_MODULES, SITE_MODULES};
use stockade_transpile::ModuleFiles;

use crate::brokers::Brokers;
use crate::directory::{Directory, SiteTarget};
use crate::error::ServeError;
use crate::error::SiteError;
use crate::plan;
use crate::site;

/// What a configuration that can be served is to be warned of.
#[derive(Debug, Default)]
pub struct Checked {
    /// Warnings of the file itself.
    pub warnings: Vec<Diagnostic>,
    /// Warnings of files that it names, such as a certificate that ends soon, or a grant that the code does not name.
    pub file_warnings: Vec<String>,
    /// What the servers of grants answered, where they were asked: the grant's place in the file and what was found.
    pub live: Vec<(String, Finding)>,
}

/// Modules that a site's runtime has itself.
pub(crate) fn importable() -> Vec<String> {
    let node = NODE_MODULES.iter();
    let node = node.flat_map(|name| [(*name).to_owned(), format!("node:{name}")]);
    let site = SITE_MODULES.iter().map(|name| (*name).to_owned());
    node.chain(site).collect()
}

/// Checks a configuration with all files that it names: code and what it imports, assets, secrets,
/// certificates and keys. A certificate that is not valid now is an error, though `serve` would start and
/// refuse only the clients that need it. With `live`, the servers of grants are asked too.
///
/// # Errors
/// What is wrong: first everything that is wrong with the file itself, and where there are none, everything that is
/// wrong with the files it names.
pub async fn check(path: &Path, live: bool) -> Result<Checked, Vec<ServeError>> {
    let loaded = Config::load(path).map_err(|diagnostics| vec![ServeError::Config(diagnostics)])?;
    let config = &loaded.config;
    let brokers = Brokers::new(Arc::new(LogAudit::default()));
    let importable = importable();
    let importable: Vec<&str> = importable.iter().map(String::as_str).collect();
    let mut wrong = Vec::new();
    let mut unused = Vec::new();
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
                let errors = files.iter().flat_map(|files| files.errors(&importable));
                errors.for_each(|error| of_site(error.into()));
                unused.extend(files.iter().flat_map(|files| unused_grants(site, files)));
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
    if let Err(error) = RouteTable::new(routes, plan::gateway::table_options(config)) {
        wrong.push(error.into());
    }
    let mut file_warnings = match crate::tls::check(config).await {
        Ok(warnings) => warnings,
        Err(errors) => {
            wrong.extend(errors.into_iter().map(ServeError::from));
            Vec::new()
        }
    };
    file_warnings.extend(unused);
    if wrong.is_empty() {
        let live = match live {
            true => ask_servers(&brokers, config)
                .await
                .map_err(|error| vec![error])?,
            false => Vec::new(),
        };
        Ok(Checked {
            warnings: loaded.warnings,
            file_warnings,
            live,
        })
    } else {
        Err(wrong)
    }
}

/// Grants whose names stand in none of the site's modules.
fn unused_grants<'a>(
    site: &'a stockade_config::Instance,
    files: &'a ModuleFiles,
) -> impl Iterator<Item = String> {
    let is_word = |char: char| char.is_alphanumeric() || matches!(char, '_' | '$');
    let names = move |text: &str, name: &str| {
        let mut found = text.match_indices(name);
        found.any(|(at, _)| {
            !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
        })
    };
    let unused = site
        .grants
        .iter()
        // A tunnel is used by rules.
        .filter(|(_, grant)| !matches!(grant, Grant::WireguardTunnel(_)))
        .filter(move |(name, _)| !files.modules.values().any(|text| names(text, name)));
    unused.map(|(name, _)| {
        format!(
            "instances.{}.grants.{name}: no module of the site names {name}",
            site.name
        )
    })
}

/// Asks the servers of all grants whether they work.
async fn ask_servers(
    brokers: &Brokers,
    config: &Config,
) -> Result<Vec<(String, Finding)>, ServeError> {
    let mut found = Vec::new();
    for (instance, site) in &config.instances {
        let roots = &site.data_guard.ca;
        let broker = brokers.with_roots(roots);
        let broker = broker.map_err(|error| ServeError::site(instance, error.into()))?;
        let ways = site::ways(&broker, site).map_err(|error| ServeError::site(instance, error))?;
        for (binding, grant) in &site.grants {
            let findings = stockade_grants::check(Granting {
                instance,
                binding,
                grant,
                broker: &broker,
                roots,
                ways: &ways,
                approval: None,
                data: None,
            });
            let place = format!("instances.{instance}.grants.{binding}");
            let findings = findings.await.into_iter();
            found.extend(findings.map(|finding| (place.clone(), finding)));
        }
    }
    Ok(found)
}

/// What is left of a site when its code and its files are good.
fn what_it_may_use(brokers: &Brokers, site: &stockade_config::Instance) -> Result<(), SiteError> {
    let broker = brokers.with_roots(&site.data_guard.ca)?;
    let (_, secrets) = site::secrets(&broker, site)?;
    let ways = site::ways(&broker, site)?;
    let limit = EgressLimits::default().max_message_bytes;
    let policy = EgressPolicy {
        ways: ways.clone(),
        ..plan::egress::policy(&site.data_guard, limit)
    };
    broker.egress(&site.name, policy, secrets)?;
    let policy = SocketPolicy {
        ways,
        ..plan::sockets::policy(&site.sockets)
    };
    broker.sockets(&site.name, policy)?;
    Ok(())
}
