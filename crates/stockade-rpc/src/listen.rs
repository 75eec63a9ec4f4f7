//! Where a server listens.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

/// Connections that the system keeps before they are accepted.
const BACKLOG: u32 = 1024;

/// A place to listen, as users write it: `127.0.0.1:7070`, `localhost:7070`, `[::1]:7070` or
/// `unix:/path.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket, for its owner alone.
    Unix(PathBuf),
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT with an IP address or localhost, such as 127.0.0.1:7070, or unix:PATH")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(AddressError),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let port = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok());
        let local = |port| Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        port.map(local).ok_or(AddressError)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Everybody who reaches the address could call the guest.
    #[error(
        "cannot listen on {0}: it is reachable from other machines, and connections are not encrypted\n  fix: listen on 127.0.0.1 or unix:PATH, or allow it with --allow-remote, where a proxy in front of it has TLS, and it or --keys authenticates callers"
    )]
    Remote(SocketAddr),
    /// The system refused.
    #[error(
        "cannot listen on {address}: {error}\n  fix: end the process that listens there, or choose another address"
    )]
    Refused {
        /// The address.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// Another file is there.
    #[error("cannot listen on unix:{}: {what}\n  fix: {fix}", path.display())]
    Taken {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a listening Unix socket; goes with it.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number, to distinguish it from another socket created there since.
    inode: Option<(u64, u64)>,
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let found = path.symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            // Nothing is left to do where it cannot be removed: the next server will find it stale.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A connection of either kind.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    pub(crate) async fn bind(address: Address, allow_remote: bool) -> Result<Self, ListenError> {
        let bound = match &address {
            Address::Tcp(tcp) if !allow_remote && !tcp.ip().is_loopback() => {
                return Err(ListenError::Remote(*tcp));
            }
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Self::Tcp),
            Address::Unix(path) => {
                make_room(path).await?;
                bind_unix(path)
            }
        };
        bound.map_err(|error| ListenError::Refused { address, error })
    }

    /// Where it really listens.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Removes a socket that nobody listens on any more, and nothing else.
async fn make_room(path: &Path) -> Result<(), ListenError> {
    let taken = |what, fix| ListenError::Taken {
        path: path.to_owned(),
        what,
        fix,
    };
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(taken(
            "there is a file that is not a socket",
            "choose another path, or remove the file",
        )),
        Ok(_) if UnixStream::connect(path).await.is_ok() => Err(taken(
            "another server listens there",
            "choose another path, or stop the other server",
        )),
        Ok(_) => {
            // If it cannot be removed, binding says why.
            let _ = std::fs::remove_file(path);
            Ok(())
        }
    }
}

/// Nobody can connect before the socket listens, and by then it is its owner's alone.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path),
    };
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(socket.listen(BACKLOG)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_as_users_write_it() {
        for (text, shown) in [
            ("127.0.0.1:7070", "http://127.0.0.1:7070"),
            ("localhost:1", "http://127.0.0.1:1"),
            ("[::1]:7070", "http://[::1]:7070"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "7070",
            "unix:",
            "example.com:1",
            "127.0.0.1",
            "127.0.0.1:x",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
