//! The description of a layer.

use serde::{Deserialize, Serialize};

/// One layer of confinement, as tried on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Its name, as errors use it.
    pub name: String,
    /// What is not available without it, of `process`, `container`, `wx: strict` and `cgroup: require`. Empty
    /// for what makes a level stronger where it is available.
    pub needed_by: Vec<String>,
    /// Whether it could be built.
    pub available: bool,
    /// What was tried, and the result.
    pub tested: String,
    /// What to do where it is missing; empty where it is not.
    pub fix: String,
    /// The first version of Linux that has all that is needed of it.
    pub kernel: String,
}
