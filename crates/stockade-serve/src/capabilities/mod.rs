//! The kinds of capabilities that need the server itself: other sites, the state, folders. Each has a module here. The
//! kinds of `grants`, which need the broker alone, are those of `stockade_grants`.
//!
//! A kind is one row of [`KINDS`], its module, and `stockade-realm/js/bindings/<kind>.js`, which makes the object that
//! a guest finds in `env`. The head of a module describes the methods of its kind and what they take.
//!
//! Invariant: a capability is one that the configuration names for this site. What a guest says about itself chooses
//! nothing.

mod approval;
mod assets;
mod files;
mod service;
mod state;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_broker::{Broker, Ways};
use stockade_capability::Capability;
use stockade_config::Instance as SiteConfig;
use stockade_gateway::Target;
use stockade_grants::{Granting, Grants};
use stockade_state::Store;

use crate::directory::Directory;
use crate::error::SiteError;
use crate::metrics::{Counts, SiteMetrics};
use crate::observe::of_state;

#[doc(hidden)]
pub use state::parse_state_calls;

/// What a capability may be made of.
pub(crate) struct Ground<'a> {
    pub(crate) site: &'a SiteConfig,
    pub(crate) broker: &'a Broker,
    /// The tunnels of the site.
    pub(crate) ways: &'a Ways,
    pub(crate) directory: &'a Arc<Directory>,
    pub(crate) grants: &'a Grants,
    /// Where grants keep what must outlive the process.
    pub(crate) grants_folder: &'a Path,
    /// The store of all states, where any site has one.
    pub(crate) store: Option<&'a Arc<dyn Store>>,
    /// The site's own files, where it has any.
    pub(crate) assets: Option<&'a Arc<dyn Target>>,
}

/// Makes what a site is granted under this name; `None` where the site has nothing to make it of.
type Open = for<'a> fn(
    &'a Ground<'a>,
    &'a str,
) -> BoxFuture<'a, Result<Option<Arc<dyn Capability>>, SiteError>>;

/// One kind of capabilities.
struct CapabilityKind {
    /// Its name between the host and the guest's runtime, which is the name of its script.
    name: &'static str,
    /// The names in `env` under which the configuration grants it.
    granted: fn(&SiteConfig) -> Vec<&str>,
    open: Open,
    /// The metric that counts its calls by their outcome.
    calls: fn(&SiteMetrics) -> &Counts,
    /// What a call with these bytes of arguments and of a result uses.
    usage: Option<CallUsage>,
}

/// What a call with these bytes of arguments and of a result uses.
pub(crate) type CallUsage = fn(u64, u64) -> stockade_usage::Counts;

const KINDS: &[CapabilityKind] = &[
    CapabilityKind {
        name: "service",
        granted: service::granted,
        open: service::open,
        calls: |metrics| &metrics.binding_calls,
        usage: None,
    },
    CapabilityKind {
        name: "state",
        granted: state::granted,
        open: state::open,
        calls: |metrics| &metrics.state_operations,
        usage: Some(of_state),
    },
    CapabilityKind {
        name: "assets",
        granted: assets::granted,
        open: assets::open,
        calls: |metrics| &metrics.binding_calls,
        usage: None,
    },
    CapabilityKind {
        name: "files",
        granted: files::granted,
        open: files::open,
        calls: |metrics| &metrics.binding_calls,
        usage: None,
    },
];

/// A capability, and the metric that counts its calls where its kind does not count them itself.
pub(crate) struct Granted {
    pub(crate) capability: Arc<dyn Capability>,
    pub(crate) calls: Option<fn(&SiteMetrics) -> &Counts>,
    pub(crate) usage: Option<CallUsage>,
}

/// Each name in a site's `env` that stands for a capability, with its kind.
pub(crate) fn granted(site: &SiteConfig) -> impl Iterator<Item = (&str, &'static str)> {
    let of_kinds = KINDS.iter().flat_map(|kind| {
        (kind.granted)(site)
            .into_iter()
            .map(|name| (name, kind.name))
    });
    let grants = site.grants.iter();
    of_kinds.chain(grants.map(|(name, grant)| (name.as_str(), grant.kind())))
}

/// Makes all that a site is granted, by the names in `env`.
pub(crate) async fn open(ground: &Ground<'_>) -> Result<HashMap<String, Granted>, SiteError> {
    let mut all = HashMap::new();
    for kind in KINDS {
        for name in (kind.granted)(ground.site) {
            if let Some(capability) = (kind.open)(ground, name).await? {
                let granted = Granted {
                    capability,
                    calls: Some(kind.calls),
                    usage: kind.usage,
                };
                all.insert(name.to_owned(), granted);
            }
        }
    }
    for (name, grant) in &ground.site.grants {
        let instance = ground.site.name.as_str();
        let opened = ground.grants.open(Granting {
            instance,
            binding: name,
            grant,
            broker: ground.broker,
            roots: &ground.site.data_guard.ca,
            ways: ground.ways,
            approval: ground
                .site
                .approvals
                .get(name)
                .map(|approve| approval::by(approve, ground.directory)),
            data: Some(ground.grants_folder.join(instance).join(name)),
        });
        let capability = opened.map_err(|source| SiteError::Grant {
            name: name.clone(),
            source,
        })?;
        let granted = Granted {
            capability,
            calls: None,
            usage: None,
        };
        all.insert(name.clone(), granted);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn kinds_and_those_of_grants_are_those_that_have_a_script_in_the_realm() {
        let realm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stockade-realm/js/bindings");
        let scripts = realm.read_dir().unwrap();
        let mut scripts: Vec<String> = scripts
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        scripts.sort();
        let mut kinds: Vec<String> = KINDS
            .iter()
            .map(|kind| kind.name)
            .chain(stockade_grants::KINDS.iter().map(|kind| kind.name))
            .map(|name| format!("{name}.js"))
            .collect();
        kinds.sort();
        // The folders of `files` and the grants `files` have one script.
        kinds.dedup();
        assert_eq!(kinds, scripts);
    }
}
