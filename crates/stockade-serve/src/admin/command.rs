//! What only the server's own loop may do, since it changes what runs.

use tokio::sync::{mpsc, oneshot};

/// Waits for commands.
pub(crate) type Commands = mpsc::Receiver<Command>;

/// Something to do, and where its outcome goes.
pub(crate) enum Command {
    /// Reads the configuration again. The outcome is what changed, or every error.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Puts a text into the configuration's place and takes it into use.
    Configure(
        Configure,
        oneshot::Sender<Result<Configured, ConfigureError>>,
    ),
}

/// A text that is to become the configuration.
pub(crate) struct Configure {
    pub(crate) text: String,
    /// The version that it replaces; `None`: any.
    pub(crate) expected: Option<String>,
}

/// A configuration that is in use.
pub(crate) struct Configured {
    pub(crate) version: String,
    /// What changed, for a person.
    pub(crate) message: String,
}

/// Why the configuration stays as it was.
pub(crate) enum ConfigureError {
    /// The file has another version than the one that was to be replaced.
    OtherVersion(String),
    /// The text has errors, or cannot be taken into use.
    Refused(String),
    /// The file cannot be read or written.
    File(std::io::Error),
}
