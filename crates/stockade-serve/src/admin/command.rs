//! What only the server's own loop may do, since it changes what runs.

use tokio::sync::{mpsc, oneshot};

use crate::deployments::{DeployError, Deployment, Share, Sticky, TrafficError, VersionRef};

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
    /// Gives the requests of an instance to other versions.
    Deploy(Deploy, oneshot::Sender<Result<Deployment, DeployRefusal>>),
}

/// Other versions that are to get the requests of an instance.
pub(crate) struct Deploy {
    pub(crate) instance: String,
    pub(crate) change: DeployChange,
    /// The number of the deployment that is replaced; `None`: any.
    pub(crate) replaces: Option<u64>,
    /// In seconds since 1970.
    pub(crate) now: u64,
    pub(crate) caller: String,
}

/// Which versions.
pub(crate) enum DeployChange {
    /// These.
    Traffic { shares: Vec<Share>, sticky: Sticky },
    /// The versions before.
    Back,
    /// This one alone.
    BackTo(VersionRef),
}

/// Why the deployment stays as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployRefusal {
    #[error("there is no such instance")]
    NoInstance,
    #[error("the instance has no code")]
    NoCode,
    #[error("the server takes no code: the configuration has no key `deployments`")]
    NotConfigured,
    #[error("there is no version {0}")]
    NoVersion(VersionRef),
    #[error("there is no other deployment before this one")]
    NothingBefore,
    #[error("the deployment has the number {0} by now\n  fix: read it again and repeat the change")]
    OtherNumber(u64),
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    #[error("{0}")]
    Refused(String),
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Store(DeployError),
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
