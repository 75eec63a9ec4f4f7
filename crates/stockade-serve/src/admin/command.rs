//! What only the server's own loop may do, since it changes what runs.

use tokio::sync::{mpsc, oneshot};

/// Waits for commands.
pub(crate) type Commands = mpsc::Receiver<Command>;

/// Something to do, and where its outcome goes.
pub(crate) enum Command {
    /// Reads the configuration again. The outcome is what changed, or every error.
    Reload(oneshot::Sender<Result<String, String>>),
}
