//! The kinds of capabilities that the configuration can grant to a site, each in a module of its own.
//!
//! A kind is one row of [`KINDS`], its module, and `stockade-realm/js/bindings/<kind>.js`, which makes the object that
//! a guest finds in `env`. The head of a module describes the methods of its kind and what they take.
//!
//! Invariant: a capability is one that the configuration names for this site. What a guest says about itself chooses
//! nothing.

mod assets;
mod files;
mod service;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_broker::Broker;
use stockade_capability::Capability;
use stockade_config::Instance as SiteConfig;
use stockade_gateway::Target;
use stockade_state::Store;

use crate::directory::Directory;
use crate::error::SiteError;
use crate::metrics::{Counts, SiteMetrics};

#[doc(hidden)]
pub use state::parse_state_calls;

/// What a capability may be made of.
pub(crate) struct Ground<'a> {
    pub(crate) site: &'a SiteConfig,
    pub(crate) broker: &'a Broker,
    pub(crate) directory: &'a Arc<Directory>,
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
}

const KINDS: &[CapabilityKind] = &[
    CapabilityKind {
        name: "service",
        granted: service::granted,
        open: service::open,
        calls: |metrics| &metrics.binding_calls,
    },
    CapabilityKind {
        name: "state",
        granted: state::granted,
        open: state::open,
        calls: |metrics| &metrics.state_operations,
    },
    CapabilityKind {
        name: "assets",
        granted: assets::granted,
        open: assets::open,
        calls: |metrics| &metrics.binding_calls,
    },
    CapabilityKind {
        name: "files",
        granted: files::granted,
        open: files::open,
        calls: |metrics| &metrics.binding_calls,
    },
];

/// A capability, and the metric that counts its calls.
pub(crate) struct Granted {
    pub(crate) capability: Arc<dyn Capability>,
    pub(crate) calls: fn(&SiteMetrics) -> &Counts,
}

/// Each name in a site's `env` that stands for a capability, with its kind.
pub(crate) fn granted(site: &SiteConfig) -> impl Iterator<Item = (&str, &'static str)> {
    KINDS.iter().flat_map(|kind| {
        (kind.granted)(site)
            .into_iter()
            .map(|name| (name, kind.name))
    })
}

/// Makes all that a site is granted, by the names in `env`.
pub(crate) async fn open(ground: &Ground<'_>) -> Result<HashMap<String, Granted>, SiteError> {
    let mut all = HashMap::new();
    for kind in KINDS {
        for name in (kind.granted)(ground.site) {
            if let Some(capability) = (kind.open)(ground, name).await? {
                let calls = kind.calls;
                all.insert(name.to_owned(), Granted { capability, calls });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn kinds_are_those_that_have_a_script_in_the_realm() {
        let realm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stockade-realm/js/bindings");
        let scripts = realm.read_dir().unwrap();
        let mut scripts: Vec<String> = scripts
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        scripts.sort();
        let mut kinds: Vec<String> = KINDS
            .iter()
            .map(|kind| format!("{}.js", kind.name))
            .collect();
        kinds.sort();
        assert_eq!(kinds, scripts);
    }
}
