//! A client's byte stream: TCP or a Unix socket, with TLS or without.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// How long a silent peer is given before the kernel probes it.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// An accepted socket: TCP on the left, a Unix socket on the right.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// A client's stream of HTTP: without TLS on the left, with TLS on the right.
pub(crate) type ClientStream = Either<PlainStream, Box<TlsStream<PlainStream>>>;

/// An accepted socket before TLS, with bytes that were read too far ahead.
#[derive(Debug)]
pub(crate) struct PlainStream {
    socket: Socket,
    ahead: Bytes,
}

impl PlainStream {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            ahead: Bytes::new(),
        }
    }

    /// Makes `bytes` the next that are read.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.ahead.is_empty(), "bytes are put back once");
        self.ahead = bytes;
    }
}

/// Sets a connection's options: small responses are sent at once, the kernel probes silent peers, and it gives up
/// data that the peer has not taken for `stall_timeout`, also after the connection is closed here. The connection
/// is served without an option that cannot be set.
pub(crate) fn set_options(socket: &Socket, stall_timeout: Duration) {
    let Either::Left(stream) = socket else {
        return;
    };
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive))
        .and_then(|()| SockRef::from(stream).set_tcp_user_timeout(Some(stall_timeout)));
    if let Err(error) = set {
        tracing::debug!(%error, "an option of a connection could not be set");
    }
}

/// Makes closing the stream a reset: the kernel drops data that the client has not taken, instead of sending it
/// after the close.
pub(crate) fn reset_on_close(stream: &ClientStream) {
    let plain = match stream {
        Either::Left(plain) => plain,
        Either::Right(tls) => tls.get_ref().0,
    };
    if let Either::Left(tcp) = &plain.socket
        && let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO))
    {
        tracing::debug!(%error, "a connection could not be reset");
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..length).unwrap_or_default());
            this.ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
