//! Sockets that listened before the process started: systemd's socket activation.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// Listening TCP sockets that the service manager gave to the process (`LISTEN_FDS`). They stay open as long as this
/// value, so that a listener which a reload removes and a later one brings back finds its socket.
///
/// A client that connects while the process is replaced waits in the socket's queue, which the service manager keeps.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<(SocketAddr, TcpListener)>,
}

/// What the service manager gave is not a listening TCP socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "descriptor {descriptor} of LISTEN_FDS cannot be used: {source}\n  fix: give only TCP sockets to this service, as in `ListenStream=443`"
)]
pub struct InheritError {
    /// Its number.
    pub descriptor: usize,
    /// Why.
    pub source: io::Error,
}

impl InheritedSockets {
    /// Takes what the environment names. To be called once, because the descriptors are taken.
    ///
    /// # Errors
    ///
    /// [`InheritError`] if one of them is not a listening TCP socket.
    pub fn from_environment() -> Result<Self, InheritError> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            let taken = given.take_tcp_listener(index).and_then(|socket| {
                let socket = socket.ok_or_else(|| io::Error::other("it was taken before"))?;
                // Not for workers and other programs that this one starts.
                SockRef::from(&socket).set_cloexec(true)?;
                socket.set_nonblocking(true)?;
                Ok((socket.local_addr()?, socket))
            });
            sockets.push(taken.map_err(|source| InheritError {
                descriptor: index + 3,
                source,
            })?);
        }
        Ok(Self { sockets })
    }

    /// The addresses, in the order of the descriptors.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// Another handle of the socket that listens at `address`, if there is one.
    pub(crate) fn get(&self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        let mut sockets = self.sockets.iter();
        let (_, socket) = sockets.find(|(listens_at, _)| *listens_at == address)?;
        Some(socket.try_clone())
    }
}
