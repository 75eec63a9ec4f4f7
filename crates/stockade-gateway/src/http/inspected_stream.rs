//! The bytes between a client and the HTTP library: every byte of a client is looked over here first.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::access::Refusal;
use crate::http::h1_framing::{Finding, Framing};
use crate::http::h2_frame_limiter::Frames;
use crate::http::service::Conversation;
use crate::http::timeouts::{Pulse, Upgrade};
use crate::listener::connection_limits::Entered;
use crate::listener::stream::Stream;

/// What a client may send after the answer that ends its connection, and for how long.
const LINGER_BYTES: u64 = 4 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// A client's stream under inspection.
pub(crate) struct Wire {
    /// Taken when it is dropped.
    io: Option<Stream>,
    inspector: Inspector,
    pulse: Arc<Pulse>,
    entered: Arc<Entered>,
}

#[derive(Debug)]
pub(crate) enum Inspector {
    Http1(Framing),
    Http2(Frames),
    /// The client's bytes were refused: for the library the connection has ended.
    Ended,
}

impl Wire {
    pub(crate) fn new(io: Stream, inspector: Inspector, conversation: &Conversation) -> Self {
        Self {
            io: Some(io),
            inspector,
            pulse: Arc::clone(&conversation.pulse),
            entered: Arc::clone(&conversation.entered),
        }
    }

    fn io(&mut self) -> io::Result<Pin<&mut Stream>> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.io.as_mut().map(Pin::new).ok_or_else(closed)
    }

    /// Looks over what was just read; how much of it may pass.
    fn inspect(&mut self, data: &mut [u8]) -> io::Result<usize> {
        match &mut self.inspector {
            Inspector::Http1(framing) => {
                if framing.undecided() {
                    match self.pulse.decision() {
                        Upgrade::Undecided => {}
                        decision => framing.decide(decision == Upgrade::Yes),
                    }
                }
                let finding = framing.inspect(data);
                self.pulse.head(framing.in_head());
                match finding {
                    Finding::Fine => Ok(data.len()),
                    Finding::Spoilt(length, refusal) => {
                        self.pulse.spoil(refusal, framing.refused(refusal));
                        self.pulse.linger();
                        self.inspector = Inspector::Ended;
                        Ok(length)
                    }
                }
            }
            Inspector::Http2(frames) => {
                if frames.inspect(data, self.pulse.written()).is_err() {
                    self.pulse.spoil(Refusal::FrameFlood, 0);
                    self.inspector = Inspector::Ended;
                    return Err(io::Error::other("too many HTTP/2 frames without a request"));
                }
                self.pulse.head(frames.in_head());
                Ok(data.len())
            }
            Inspector::Ended => Ok(0),
        }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(bytes)) => self.pulse.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.blocked(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.inspector, Inspector::Ended) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match this.io()?.poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let read = buf.filled_mut().get_mut(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let passes = this.inspect(read)?;
        buf.set_filled(before + passes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.io()?.poll_write(cx, buf);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.io()?.poll_write_vectored(cx, bufs);
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.io()?.poll_flush(cx);
        match result {
            Poll::Ready(Ok(())) => this.pulse.flushed(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.pulse.blocked(),
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io()?.poll_shutdown(cx)
    }
}

impl Drop for Wire {
    /// Closing while bytes of the client are unread makes the kernel reset the connection, and the client
    /// may never see the answer (RFC 9112, section 9.6).
    fn drop(&mut self) {
        let Some(mut io) = self.io.take() else {
            return;
        };
        if self.pulse.stalled() {
            return io.forget();
        }
        if !self.pulse.lingers() {
            return;
        }
        let entered = Arc::clone(&self.entered);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let lingering = async {
                    io.shutdown().await?;
                    tokio::io::copy(&mut io.take(LINGER_BYTES), &mut tokio::io::sink()).await
                };
                let _ = timeout(LINGER, lingering).await;
                drop(entered);
            });
        }
    }
}
