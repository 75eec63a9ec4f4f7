//! Why an isolate could not be started.

/// Why an isolate could not be started.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}\n  checked: {checked}\n  fix: {fix}")]
pub struct StartError {
    /// What failed, in one line.
    pub what: String,
    /// What was checked.
    pub checked: String,
    /// What to do about it.
    pub fix: String,
}
