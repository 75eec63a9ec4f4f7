//! A client's stream between socket and HTTP library: every byte of the client is checked before the library reads it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::access::Refusal;
use crate::http::connection_state::{Close, ConnectionState, UpgradeDecision};
use crate::http::h1_framing::{H1Framing, Passage};
use crate::http::h2_frame_limiter::H2FrameLimiter;
use crate::http::unread_body::{LINGER, LINGER_BYTES};
use crate::listener::connection_limits::ConnectionPermit;
use crate::listener::stream::{ClientStream, reset_on_close};

/// Bytes of the head and the body of a response that are written as one buffer.
const SMALL: usize = 1024;

/// A client's stream under inspection.
pub(crate) struct InspectedStream {
    /// Taken when it is dropped.
    io: Option<ClientStream>,
    inspector: Inspector,
    state: Arc<ConnectionState>,
    permit: Arc<ConnectionPermit>,
}

#[derive(Debug)]
pub(crate) enum Inspector {
    Http1(H1Framing),
    Http2(H2FrameLimiter),
    /// The client's bytes were rejected: for the library the connection has ended.
    Ended,
}

impl InspectedStream {
    pub(crate) fn new(
        io: ClientStream,
        inspector: Inspector,
        state: Arc<ConnectionState>,
        permit: Arc<ConnectionPermit>,
    ) -> Self {
        Self {
            io: Some(io),
            inspector,
            state,
            permit,
        }
    }

    fn io(&mut self) -> io::Result<Pin<&mut ClientStream>> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.io.as_mut().map(Pin::new).ok_or_else(closed)
    }

    /// Checks what was just read; returns how much of it may pass.
    fn inspect(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let state = &self.state;
        match &mut self.inspector {
            Inspector::Http1(framing) => {
                if framing.undecided()
                    && let Some(decision) = state.upgrade.take()
                {
                    framing.decide(decision == UpgradeDecision::Accepted);
                }
                let passage = framing.inspect(data);
                state.timers.reading_head(framing.in_head());
                match passage {
                    Passage::All => Ok(data.len()),
                    Passage::Until(length, refusal) => {
                        let request = framing.refused_request(refusal);
                        state.input.reject(refusal, request);
                        state.close.linger();
                        self.inspector = Inspector::Ended;
                        Ok(length)
                    }
                }
            }
            Inspector::Http2(frames) => {
                if frames.inspect(data, state.timers.written()).is_err() {
                    state.input.reject(Refusal::FrameFlood, 0);
                    self.inspector = Inspector::Ended;
                    return Err(io::Error::other("too many HTTP/2 frames without a request"));
                }
                state.timers.reading_head(frames.in_head());
                Ok(data.len())
            }
            Inspector::Ended => Ok(0),
        }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(bytes)) => self.state.timers.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.timers.write_blocked(),
        }
    }
}

impl AsyncRead for InspectedStream {
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

impl AsyncWrite for InspectedStream {
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
        let mut together = [0; SMALL];
        let io = this.io()?;
        let result = match join(bufs, &mut together) {
            Some(length) => io.poll_write(cx, &together[..length]),
            None => io.poll_write_vectored(cx, bufs),
        };
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
            Poll::Ready(Ok(())) => this.state.timers.write_flushed(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.state.timers.write_blocked(),
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io()?.poll_shutdown(cx)
    }
}

/// Puts several buffers into one, if they fit: one buffer costs the kernel less than a list of them. Returns their length.
fn join(bufs: &[io::IoSlice<'_>], together: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    for buf in bufs {
        let end = length + buf.len();
        together.get_mut(length..end)?.copy_from_slice(buf);
        length = end;
    }
    Some(length)
}

impl Drop for InspectedStream {
    /// Closing while bytes of the client are unread makes the kernel reset the connection, and the client
    /// may never see the answer (RFC 9112, section 9.6).
    fn drop(&mut self) {
        let Some(mut io) = self.io.take() else {
            return;
        };
        match self.state.close.current() {
            Close::Plain => {}
            Close::Reset => reset_on_close(&io),
            Close::Linger => {
                let permit = Arc::clone(&self.permit);
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(async move {
                        let lingering = async {
                            io.shutdown().await?;
                            tokio::io::copy(&mut io.take(LINGER_BYTES), &mut tokio::io::sink())
                                .await
                        };
                        let _ = timeout(LINGER, lingering).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_fit_are_joined_in_order() {
        let slices = [b"head".as_slice(), b"", b"body"].map(io::IoSlice::new);
        let mut together = [0; 8];
        assert_eq!(join(&slices, &mut together), Some(8));
        assert_eq!(&together, b"headbody");
        assert_eq!(join(&slices, &mut [0; 7]), None);
    }
}
