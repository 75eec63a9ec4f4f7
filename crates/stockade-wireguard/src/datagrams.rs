//! Datagrams over UDP within a tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use crate::shared::Shared;

/// Bytes of the headers of IPv4 and UDP, and of IPv6 and UDP.
const HEADERS_V4: usize = 20 + 8;
const HEADERS_V6: usize = 40 + 8;

/// A socket for datagrams. They are neither taken apart nor put together: each is one packet of the tunnel.
pub struct TunnelDatagrams {
    shared: Arc<Shared>,
    handle: SocketHandle,
}

impl TunnelDatagrams {
    pub(crate) fn bind(shared: Arc<Shared>, remote: IpAddr) -> io::Result<Self> {
        let handle = shared.stack.lock().datagrams(remote)?;
        Ok(Self { shared, handle })
    }

    fn with<R>(&self, act: impl FnOnce(&mut udp::Socket<'static>) -> R) -> R {
        act(self.shared.stack.lock().socket(self.handle))
    }

    /// Whether a datagram is there.
    ///
    /// # Errors
    /// The tunnel is over.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| {
            if !socket.is_open() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            if socket.can_recv() {
                return Poll::Ready(Ok(()));
            }
            socket.register_recv_waker(cx.waker());
            Poll::Pending
        })
    }

    /// Receives a datagram, of anyone. The rest of one that is longer than `buffer` is lost.
    ///
    /// # Errors
    /// The tunnel is over.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.with(|socket| {
            if !socket.is_open() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            match socket.recv() {
                Ok((data, from)) => {
                    let length = data.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&data[..length]);
                    let from = SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port);
                    Poll::Ready(Ok((length, from)))
                }
                Err(_) => {
                    socket.register_recv_waker(cx.waker());
                    Poll::Pending
                }
            }
        })
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// It is longer than a packet of the tunnel, or the tunnel is over.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        let headers = if to.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        let most = usize::from(self.shared.config.mtu) - headers;
        if data.len() > most {
            let why = format!("a datagram in this tunnel has at most {most} bytes");
            return Poll::Ready(Err(io::Error::other(why)));
        }
        let sent = self.with(|socket| {
            if !socket.is_open() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            match socket.send_slice(data, (to.ip(), to.port())) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(udp::SendError::BufferFull) => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                Err(udp::SendError::Unaddressable) => {
                    Poll::Ready(Err(io::ErrorKind::AddrNotAvailable.into()))
                }
            }
        });
        if sent.is_ready() {
            self.shared.wake.notify_one();
        }
        sent
    }
}

impl Drop for TunnelDatagrams {
    fn drop(&mut self) {
        self.shared.stack.lock().leave_datagrams(self.handle);
    }
}
