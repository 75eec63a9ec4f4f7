//! Why a layer could not be built.

use serde::{Deserialize, Serialize};

/// A layer that is missing here. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}\n  checked: {checked}\n  fix: {fix}")]
pub struct JailError {
    /// Such as `landlock`; the names are those of `stockade doctor`.
    pub layer: String,
    /// What failed, in one line.
    pub what: String,
    /// What was tried.
    pub checked: String,
    /// What to do about it.
    pub fix: String,
}

impl JailError {
    /// An error of this layer.
    pub(crate) fn new(
        layer: &str,
        what: impl Into<String>,
        checked: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            layer: layer.to_owned(),
            what: what.into(),
            checked: checked.into(),
            fix: fix.into(),
        }
    }
}
