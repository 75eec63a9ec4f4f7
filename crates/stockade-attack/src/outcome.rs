//! The result of one attempt.

use serde::{Deserialize, Serialize};

/// The result of an attempt, as the worker itself reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The call went through and returned this.
    Allowed(i64),
    /// The call failed with this error number.
    Refused(i32),
    /// Something was found that should not be there.
    Found(String),
    /// Everything was searched, nothing was found.
    Clean,
    /// A harmless thing works.
    Works,
}
