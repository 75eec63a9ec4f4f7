//! Why there is no backup, or nothing was restored.

use std::io;
use std::path::{Path, PathBuf};

use crate::deployments::DeployError;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused.
    #[error("{path}: {what} failed: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A database could not be copied.
    #[error("{path}: copying the database failed: {source}")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Clients write more than can be copied.
    #[error(
        "{path}: the copy was given up, because more than {limit} MiB were written to the database meanwhile\n  \
         fix: take the backup when less is written"
    )]
    TooBusy {
        /// Which database.
        path: PathBuf,
        /// The most that its log may have, in MiB.
        limit: u64,
    },
    /// No room for a copy.
    #[error(
        "{path}: the backup needs {needed} MiB there, and {free} MiB are free\n  \
         fix: free some space, or write the backup to another disk"
    )]
    NoRoom {
        /// Where the copy would be.
        path: PathBuf,
        /// In MiB.
        needed: u64,
        /// In MiB.
        free: u64,
    },
    /// Another backup writes there.
    #[error("{path}: another backup is writing this file\n  fix: wait until it has ended")]
    Another {
        /// The file that both write.
        path: PathBuf,
    },
    /// Nothing is kept yet.
    #[error("{config}: nothing that it names exists, so there is nothing to copy")]
    Nothing {
        /// The configuration.
        config: PathBuf,
    },
    /// A file went away while it was copied.
    #[error(
        "{path}: it was removed while it was copied, by an upload that replaced old versions\n  fix: take the backup again"
    )]
    Removed {
        /// Which.
        path: PathBuf,
    },
    /// The archive is no backup, or not whole.
    #[error("the backup cannot be used: {0}\n  fix: use another backup")]
    Damaged(String),
    /// A later version made the archive.
    #[error(
        "the backup has the format {found}, and this version reads {known}\n  fix: use the version of Stockade that made it, or a later one"
    )]
    Newer {
        /// The format of the archive.
        found: u64,
        /// The latest that is known.
        known: u64,
    },
    /// A server runs by this configuration.
    #[error(
        "a server is running: {path} answers\n  fix: stop it before its stores are replaced (systemctl stop stockade)"
    )]
    Running {
        /// Its control socket.
        path: PathBuf,
    },
    /// The state is in use.
    #[error(transparent)]
    InUse(#[from] stockade_state::OpenError),
    /// There is something in the place of what is restored.
    #[error(
        "{path} exists\n  fix: use --replace, which keeps what is there with the suffix .replaced"
    )]
    Exists {
        /// Its path.
        path: PathBuf,
    },
    /// The folder of deployments is damaged or in use.
    #[error(transparent)]
    Deployments(#[from] DeployError),
}

impl BackupError {
    pub(super) fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, what, source }
    }

    pub(super) fn damaged(what: &str, why: &dyn std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}: {why}"))
    }
}
