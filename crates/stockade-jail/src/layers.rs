//! What of the walls this machine can build, for `stockade doctor`.

use serde::{Deserialize, Serialize};

use crate::JailError;
use crate::cgroup::Cgroups;
use crate::namespaces::Ids;

/// One layer of the walls, as tried on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Its name, as errors use it.
    pub name: String,
    /// What cannot be had without it: `process`, `container`, `wx: strict`, `cgroup: require`.
    pub needed_by: Vec<String>,
    /// Whether it was built when tried.
    pub available: bool,
    /// What was tried, and what came of it.
    pub tested: String,
    /// What to do where it is missing; empty where it is not.
    pub fix: String,
    /// The first version of Linux that has it.
    pub kernel: String,
}

pub(crate) fn launcher(error: Option<&JailError>) -> Layer {
    Layer {
        name: "launcher".into(),
        needed_by: vec!["process".into(), "container".into()],
        available: error.is_none(),
        tested: error.map_or_else(|| "started".to_owned(), |e| e.what.clone()),
        fix: error.map_or_else(String::new, |e| e.fix.clone()),
        kernel: "5.9".into(),
    }
}

pub(crate) fn try_all(_: &Cgroups, _: &mut Ids) -> Vec<Layer> {
    Vec::new()
}
