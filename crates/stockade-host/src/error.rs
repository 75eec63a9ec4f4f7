//! Why a run could not start.

use std::path::PathBuf;

/// Why a run could not start. What goes wrong once the script runs is printed as the script's error
/// and is no `HostError`.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The script does not exist.
    #[error(
        "cannot run '{}': no such file\n  checked: {}",
        script.display(),
        absolute.display()
    )]
    NoScript {
        /// As given.
        script: PathBuf,
        /// Where it was looked for.
        absolute: PathBuf,
    },
    /// The script exists but cannot be read.
    #[error("cannot run '{}': {reason}", script.display())]
    Unreadable {
        /// As given.
        script: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The host isolate could not be set up.
    #[error("cannot start the host isolate: {0}")]
    Start(String),
}
