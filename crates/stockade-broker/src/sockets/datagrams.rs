//! Datagrams as a stream of bytes: each is its length in two bytes, the higher one first, and its data.
//!
//! The socket speaks with one checked address: what comes from elsewhere is not passed on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use stockade_limits::RateLimiter;
use stockade_wireguard::TunnelDatagrams;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

/// Bytes of the largest datagram over IPv4 (RFC 768, with the headers of RFC 791 and its own).
const MOST_DATAGRAM_BYTES: usize = 65_507;
/// Bytes of a length.
const HEAD: usize = 2;

/// When datagrams may be sent, shared by the sockets of an instance.
pub(super) type Pace = Option<Arc<Mutex<RateLimiter>>>;

/// A socket that speaks with one address alone.
pub(super) enum DatagramSocket {
    /// The system passes on what comes from its address.
    System(UdpSocket),
    /// Datagrams of a tunnel, with the address that they go to.
    Tunnel(TunnelDatagrams, SocketAddr),
}

impl DatagramSocket {
    /// Receives a datagram.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::System(socket) => {
                let mut read = ReadBuf::new(buffer);
                ready!(socket.poll_recv(cx, &mut read))?;
                Poll::Ready(Ok(read.filled().len()))
            }
            Self::Tunnel(socket, address) => loop {
                let (length, from) = ready!(socket.poll_receive(cx, buffer))?;
                if from == *address {
                    return Poll::Ready(Ok(length));
                }
            },
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<()>> {
        match self {
            Self::System(socket) => socket.poll_send(cx, data).map_ok(|_| ()),
            Self::Tunnel(socket, address) => socket.poll_send(cx, data, *address),
        }
    }

    /// Whether there may be a datagram to receive.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::System(socket) => socket.poll_recv_ready(cx),
            Self::Tunnel(socket, _) => socket.poll_ready(cx),
        }
    }
}

/// The datagrams of one socket.
pub(super) struct Datagrams {
    socket: DatagramSocket,
    pace: Pace,
    after: Option<Pin<Box<Sleep>>>,
    /// What was received and not read, from `read` on.
    received: Vec<u8>,
    read: usize,
    /// What was written of a datagram that is not whole.
    partial: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(socket: DatagramSocket, pace: Pace) -> Self {
        Self {
            socket,
            pace,
            after: None,
            received: Vec::new(),
            read: 0,
            partial: Vec::new(),
        }
    }

    /// Receives one datagram as a length and its data.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_ready(cx))?;
        // Held only while a datagram is there.
        let mut data = vec![0; HEAD + MOST_DATAGRAM_BYTES];
        let length = ready!(self.socket.poll_receive(cx, &mut data[HEAD..]))?;
        let head = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        data[..HEAD].copy_from_slice(&head);
        data.truncate(HEAD + length);
        data.shrink_to_fit();
        (self.received, self.read) = (data, 0);
        Poll::Ready(Ok(()))
    }

    /// The length of the datagram that is being written, once its head is there.
    fn length(&self) -> Option<usize> {
        let head = self.partial.first_chunk::<HEAD>()?;
        Some(usize::from(u16::from_be_bytes(*head)))
    }

    /// Sends the datagram that is whole.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sleep) = &mut self.after {
            ready!(sleep.as_mut().poll(cx));
            self.after = None;
        }
        let data = self.partial.get(HEAD..).unwrap_or_default();
        ready!(self.socket.poll_send(cx, data))?;
        self.partial.clear();
        if let Some(pace) = &self.pace {
            let now = Instant::now();
            let wait = pace.lock().take(1, now.into_std());
            self.after = (!wait.is_zero()).then(|| Box::pin(tokio::time::sleep_until(now + wait)));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a whole datagram waits to be sent.
    fn is_whole(&self) -> bool {
        self.length()
            .is_some_and(|length| self.partial.len() == HEAD + length)
    }
}

impl AsyncRead for Datagrams {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read == self.received.len() {
            ready!(self.poll_receive(cx))?;
        }
        let rest = self.received.get(self.read..).unwrap_or_default();
        let given = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..given]);
        self.read += given;
        if self.read == self.received.len() {
            self.received = Vec::new();
            self.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Datagrams {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One that did not go before goes first.
        if self.is_whole() {
            ready!(self.poll_sent(cx))?;
        }
        let wanted = match self.length() {
            Some(length) if length > MOST_DATAGRAM_BYTES => {
                let why = format!("a datagram has at most {MOST_DATAGRAM_BYTES} bytes");
                return Poll::Ready(Err(io::Error::other(why)));
            }
            Some(length) => HEAD + length - self.partial.len(),
            None => HEAD - self.partial.len(),
        };
        let taken = wanted.min(data.len());
        self.partial.extend_from_slice(&data[..taken]);
        if self.is_whole() {
            // It goes now if it can, and otherwise with the next write or flush.
            if let Poll::Ready(sent) = self.poll_sent(cx) {
                sent?;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_whole() {
            ready!(self.poll_sent(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
