//! Sockets that listen, and the loops that accept connections and receive datagrams from them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::either::Either;

use crate::access::{Observer, Refusal};
use crate::listener::flows::{Flow, Flows};
use crate::listener::inherited::InheritedSockets;
use crate::listener::options::{Address, ListenError, Listener};
use crate::listener::stream::Socket;

/// Connections that wait to be accepted. The kernel takes the smaller of this and its own limit.
const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no descriptor or memory left.
const REST: Duration = Duration::from_millis(100);

/// A listener with its socket.
pub(crate) struct BoundListener {
    /// The address of the options: its port may be 0.
    asked: Address,
    /// The address with the port that the system chose.
    address: Address,
    /// Replaced by a reload; connections read it as long as they live.
    listener: Arc<ArcSwap<Listener>>,
    /// Taken by the loop that accepts.
    socket: Mutex<Option<ListeningSocket>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A connection that the kernel has accepted.
pub(crate) struct AcceptedSocket {
    pub(crate) socket: Socket,
    /// None for Unix sockets.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: Arc<ArcSwap<Listener>>,
}

enum ListeningSocket {
    Connections(Accepting),
    Datagrams(UdpSocket),
}

/// A socket that accepts connections: TCP on the left, a Unix socket on the right.
type Accepting = Either<TcpListener, UnixListener>;

impl BoundListener {
    /// Opens a socket for the listener, or takes the inherited one with its address.
    pub(crate) fn bind(
        listener: Listener,
        inherited: &InheritedSockets,
    ) -> Result<Self, ListenError> {
        let asked = listener.address.clone();
        let connections = ListeningSocket::Connections;
        let (socket, address) = match &asked {
            Address::Tcp(address) => {
                let bound = match inherited.get(*address) {
                    Some(socket) => socket
                        .map_err(|error| ("copying the socket failed", error))
                        .and_then(register),
                    None => bind_tcp(*address),
                };
                let (socket, address) =
                    bound.map_err(|(what, error)| explain(&asked, what, error))?;
                (connections(Either::Left(socket)), Address::Tcp(address))
            }
            Address::Udp(address) => {
                let (socket, address) =
                    bind_udp(*address).map_err(|(what, error)| explain(&asked, what, error))?;
                (ListeningSocket::Datagrams(socket), Address::Udp(address))
            }
            Address::Unix(path) => {
                let socket =
                    bind_unix(path).map_err(|(what, error)| explain(&asked, what, error))?;
                (connections(Either::Right(socket)), asked.clone())
            }
        };
        Ok(Self {
            asked,
            address,
            listener: Arc::new(ArcSwap::from_pointee(listener)),
            socket: Mutex::new(Some(socket)),
            task: Mutex::default(),
        })
    }

    /// Whether this socket is the one for `address`, with the port of the options or the one the system chose.
    pub(crate) fn asked_for(&self, address: &Address) -> bool {
        self.asked == *address || self.address == *address
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.listener.load().name)
    }

    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Replaces the options for the connections to come.
    pub(crate) fn replace(&self, listener: Listener) {
        self.listener.store(Arc::new(listener));
    }

    /// Starts accepting: each connection becomes a task that runs `serve`, and each flow of datagrams is given to
    /// `begin`. `observer` receives why datagrams are dropped.
    pub(crate) fn accept<S, F>(
        self: &Arc<Self>,
        serve: S,
        observer: &Arc<dyn Observer>,
        begin: impl Fn(Flow, Arc<Listener>) -> Result<(), Refusal> + Send + 'static,
    ) where
        S: Fn(AcceptedSocket) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let task = match self.socket.lock().take() {
            None => return,
            Some(ListeningSocket::Connections(socket)) => {
                tokio::spawn(accept_all(socket, Arc::clone(self), serve))
            }
            Some(ListeningSocket::Datagrams(socket)) => {
                let observer = Arc::clone(observer);
                let (limits, listener) = (Arc::clone(&self.listener), Arc::clone(&self.listener));
                tokio::spawn(Arc::new(Flows::new(socket)).receive(
                    move || limits.load().datagrams,
                    move |flow| begin(flow, listener.load_full()),
                    move |refusal, peer| observer.refused(refusal, Some(peer.ip())),
                ))
            }
        };
        *self.task.lock() = Some(task);
    }

    /// Stops accepting, and gives the address back.
    pub(crate) async fn close(&self) {
        let task = self.stop();
        if let Some(task) = task {
            // The task was cancelled; when it has ended, its socket is closed.
            let _ = task.await;
        }
    }

    pub(crate) fn stop(&self) -> Option<JoinHandle<()>> {
        let task = self.task.lock().take();
        if let Some(task) = &task {
            task.abort();
        }
        self.socket.lock().take();
        if let Address::Unix(path) = &self.address
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "a socket's file could not be removed");
        }
        task
    }
}

async fn accept_all<S, F>(socket: Accepting, bound: Arc<BoundListener>, serve: S)
where
    S: Fn(AcceptedSocket) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = match &socket {
            Accepting::Left(socket) => socket.accept().await.map(|(stream, peer)| {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                (Socket::Left(stream), Some(peer))
            }),
            Accepting::Right(socket) => socket
                .accept()
                .await
                .map(|(stream, _)| (Socket::Right(stream), None)),
        };
        match accepted {
            Ok((socket, peer)) => {
                let listener = Arc::clone(&bound.listener);
                tokio::spawn(serve(AcceptedSocket {
                    socket,
                    peer,
                    listener,
                }));
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                let address = &bound.address;
                tracing::warn!(%address, %error, "accepting connections rests for a moment");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Errors that concern the connection, not the socket that listens (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

type Step<T> = Result<T, (&'static str, io::Error)>;

/// A socket that is bound. `reuse`: also where a connection of a listener that is gone has the address.
fn bound(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    reuse: bool,
) -> Step<socket2::Socket> {
    let step = |what| move |error| (what, error);
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))
        .map_err(step("opening a socket failed"))?;
    let set = socket
        .set_reuse_address(reuse)
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| {
            if address.is_ipv6() {
                socket.set_only_v6(true)
            } else {
                Ok(())
            }
        });
    set.map_err(step("preparing the socket failed"))?;
    socket
        .bind(&SockAddr::from(address))
        .map_err(step("binding failed"))?;
    Ok(socket)
}

/// Without `SO_REUSEADDR`, by which another process could take the datagrams (socket(7)).
fn bind_udp(address: SocketAddr) -> Step<(UdpSocket, SocketAddr)> {
    let step = |what| move |error| (what, error);
    let socket = bound(address, Type::DGRAM, Protocol::UDP, false)?;
    let socket =
        UdpSocket::from_std(socket.into()).map_err(step("registering the socket failed"))?;
    let address = socket
        .local_addr()
        .map_err(step("asking for the port failed"))?;
    Ok((socket, address))
}

fn bind_tcp(address: SocketAddr) -> Step<(TcpListener, SocketAddr)> {
    let step = |what| move |error| (what, error);
    let socket = bound(address, Type::STREAM, Protocol::TCP, true)?;
    socket.listen(BACKLOG).map_err(step("listening failed"))?;
    register(socket.into())
}

/// Hands a listening socket to the runtime.
fn register(socket: std::net::TcpListener) -> Step<(TcpListener, SocketAddr)> {
    let listener =
        TcpListener::from_std(socket).map_err(|error| ("registering the socket failed", error))?;
    let address = listener
        .local_addr()
        .map_err(|error| ("asking for the port failed", error))?;
    Ok((listener, address))
}

fn bind_unix(path: &Path) -> Step<UnixListener> {
    let step = |what| move |error| (what, error);
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket");
            return Err(("there is something in its place", error));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let error = io::Error::new(io::ErrorKind::AddrInUse, "another process listens");
            return Err(("binding failed", error));
        }
        std::fs::remove_file(path).map_err(step("removing the old socket failed"))?;
    }
    let listener = UnixListener::bind(path).map_err(step("binding failed"))?;
    let mode = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(path, mode).map_err(step("setting the socket's mode failed"))?;
    Ok(listener)
}

fn explain(address: &Address, what: &'static str, source: io::Error) -> ListenError {
    let fix = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "end the process that listens there (see `ss -ltnp`), or choose another address"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023, or allow lower ones: \
             sysctl net.ipv4.ip_unprivileged_port_start=80"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine (see `ip address`)",
        io::ErrorKind::NotFound => "make the folder first",
        io::ErrorKind::AlreadyExists => "remove the file, or choose another path",
        _ => "choose another address",
    };
    ListenError {
        address: address.clone(),
        what,
        fix,
        source,
    }
}
