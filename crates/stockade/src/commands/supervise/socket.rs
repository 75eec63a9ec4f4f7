//! The socket of the supervisor: its file, and who may connect.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

use super::super::exit;
use super::super::guest::Refusal;
use super::shares::Peer;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Another supervisor is there.
    #[error(
        "a supervisor listens on {0} already\n  fix: connect to it, stop it, or choose another path with --socket PATH"
    )]
    InUse(String),
    /// Another file is there.
    #[error("{0} is there, and is not a socket\n  fix: choose another path with --socket PATH")]
    NotASocket(String),
    /// Others could replace the socket.
    #[error(
        "the folder {folder} {why}: others could put a socket of theirs there\n  fix: chmod 700 {folder}, or choose a path in a \
         folder of yours"
    )]
    Folder {
        /// Which one.
        folder: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refuses.
    #[error("cannot listen on {path}: {what}: {error}")]
    System {
        /// The path of the socket.
        path: String,
        /// What failed.
        what: &'static str,
        /// How.
        error: io::Error,
    },
}

/// `$XDG_RUNTIME_DIR/stockade/supervise.sock`.
pub(super) fn default_path() -> Result<PathBuf, Refusal> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| {
        let message = "XDG_RUNTIME_DIR is not set, which is where the socket belongs\n  fix: name a path with --socket PATH";
        Refusal(message.to_owned(), exit::USAGE)
    })?;
    Ok(Path::new(&folder).join("stockade").join("supervise.sock"))
}

/// A socket that is removed when it is dropped.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// The inode of the socket's file: another file at this path is not ours to remove.
    inode: u64,
}

impl Socket {
    /// Listens at a path.
    pub(super) fn bind(path: PathBuf) -> Result<Self, SocketError> {
        let shown = path.display().to_string();
        let failed = |what| {
            let path = shown.clone();
            move |error| SocketError::System { path, what, error }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = open_folder(folder, failed("its folder cannot be used"))?;
        // Two supervisors that start at the same time do not remove each other's socket.
        flock(&folder, FlockOperation::LockExclusive)
            .map_err(|error| failed("its folder cannot be locked")(error.into()))?;
        remove_stale(&path, &shown, failed("what is there cannot be replaced"))?;
        let listener = UnixListener::bind(&path).map_err(failed("bind(2)"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(failed("chmod(2)"))?;
        let inode = fs::symlink_metadata(&path)
            .map_err(failed("stat(2)"))?
            .ino();
        Ok(Self {
            listener,
            path,
            inode,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection; `None` where it is not let in.
    pub(super) async fn accept(&self) -> Option<(UnixStream, Peer)> {
        let client = match self.listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                // Out of descriptors: the next attempt would fail at once.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                return None;
            }
        };
        let credentials = client.peer_cred().ok()?;
        let user = credentials.uid();
        let is_let_in = user == 0 || user == geteuid().as_raw();
        if !is_let_in {
            tracing::warn!("refused a connection of the user {user}");
        }
        let process = credentials.pid().unwrap_or_default();
        is_let_in.then_some((client, Peer { user, process }))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Opens the folder, which is made if it is missing, and which nobody else may change.
fn open_folder(
    path: &Path,
    failed: impl FnOnce(io::Error) -> SocketError,
) -> Result<File, SocketError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    let opened = match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(path).and_then(|folder| Ok((folder.metadata()?, folder))),
    };
    let (metadata, folder) = opened.map_err(failed)?;
    let why = if metadata.uid() != geteuid().as_raw() && metadata.uid() != 0 {
        "belongs to another user"
    } else if metadata.mode() & 0o022 != 0 {
        "can be written to by others"
    } else {
        return Ok(folder);
    };
    let folder = path.display().to_string();
    Err(SocketError::Folder { folder, why })
}

/// Removes a socket on which nothing listens.
fn remove_stale(
    path: &Path,
    shown: &str,
    failed: impl FnOnce(io::Error) -> SocketError,
) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(SocketError::NotASocket(shown.to_owned()));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(shown.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind(path: &Path) -> Result<Socket, SocketError> {
        Socket::bind(path.to_owned())
    }

    #[tokio::test]
    async fn socket_is_private_replaces_a_stale_one_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/a.sock");
        drop(std::os::unix::net::UnixListener::bind(folder.path().join("b.sock")).unwrap());
        let stale = bind(&folder.path().join("b.sock")).await.unwrap();
        assert!(stale.path().exists());
        let socket = bind(&path).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(matches!(bind(&path).await, Err(SocketError::InUse(_))));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn socket_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(matches!(bind(&file).await, Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = bind(&open.join("a.sock")).await;
        assert!(matches!(refused, Err(SocketError::Folder { .. })));
    }
}
