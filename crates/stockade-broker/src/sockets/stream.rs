//! The bytes of one connection: counted, held to the bandwidth, and ended when its time is over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;

use super::datagrams::Datagrams;
use crate::audit::Reason;
use crate::connect::Wire;
use crate::error::EgressError;
use crate::in_flight::InFlight;

/// Bytes that a guest may send without TLS where its rule requires TLS: enough for any protocol's way to start it.
const PLAIN_BYTES: u64 = 4096;

/// Bytes of one write, so that one of any size is limited to the bandwidth.
const MOST_WRITTEN: usize = 64 << 10;

/// What a connection and those that watch it share.
pub(super) struct Watched {
    pub(super) in_flight: Arc<InFlight>,
    /// Milliseconds from the start to the last byte.
    last: AtomicU64,
    /// TLS must start before the guest has sent [`PLAIN_BYTES`].
    must_start_tls: AtomicBool,
}

impl Watched {
    pub(super) fn new(in_flight: Arc<InFlight>, must_start_tls: bool) -> Arc<Self> {
        let watched = Self {
            in_flight,
            last: AtomicU64::new(0),
            must_start_tls: AtomicBool::new(must_start_tls),
        };
        watched.stamp();
        Arc::new(watched)
    }

    pub(super) fn tls_started(&self) {
        self.must_start_tls.store(false, Ordering::Relaxed);
    }

    fn stamp(&self) {
        let since = self.in_flight.started.elapsed();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Until the connection has been idle for too long, or its life is over.
    pub(super) async fn over(&self, idle: Duration, life: Duration) -> EgressError {
        let end = self.in_flight.started + life;
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let silent = self.in_flight.started + last + idle;
            let now = Instant::now();
            if now >= end {
                return self.in_flight.timed_out("the connection", life);
            }
            if now >= silent {
                return self.in_flight.timed_out("waiting for data", idle);
            }
            tokio::time::sleep_until(silent.min(end)).await;
        }
    }
}

/// What carries the bytes: a connection on the left, datagrams on the right.
pub(super) type Transport = Either<Wire, Datagrams>;

/// A connection of a guest. Dropping it closes the connection.
pub struct SocketStream {
    inner: Transport,
    watched: Arc<Watched>,
    read_after: Option<Pin<Box<Sleep>>>,
    write_after: Option<Pin<Box<Sleep>>>,
    sent: u64,
}

impl SocketStream {
    pub(super) fn new(inner: Transport, watched: Arc<Watched>) -> Self {
        Self {
            inner,
            watched,
            read_after: None,
            write_after: None,
            sent: 0,
        }
    }
}

/// Ready when the bandwidth has room.
fn poll_room(after: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = after {
        ready!(sleep.as_mut().poll(cx));
        *after = None;
    }
    Poll::Ready(())
}

/// Takes what counting gave: when there is room for more, or why there is not.
fn note(
    watched: &Watched,
    after: &mut Option<Pin<Box<Sleep>>>,
    counted: Result<Option<Instant>, Reason>,
) -> io::Result<()> {
    watched.stamp();
    match counted {
        Ok(until) => {
            *after = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
            Ok(())
        }
        Err(reason) => Err(io::Error::other(watched.in_flight.refuse(reason))),
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(poll_room(&mut this.read_after, cx));
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 {
            let (_, counted) = this.watched.in_flight.receives(read);
            note(&this.watched, &mut this.read_after, counted)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(poll_room(&mut this.write_after, cx));
        let data = &data[..data.len().min(MOST_WRITTEN)];
        let must_start_tls = this.watched.must_start_tls.load(Ordering::Relaxed);
        if must_start_tls && this.sent.saturating_add(data.len() as u64) > PLAIN_BYTES {
            let refused = this.watched.in_flight.refuse(Reason::TlsRequired);
            return Poll::Ready(Err(io::Error::other(refused)));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, data))?;
        this.sent = this.sent.saturating_add(written as u64);
        let (_, counted) = this.watched.in_flight.sends(written);
        note(&this.watched, &mut this.write_after, counted)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Drop for SocketStream {
    fn drop(&mut self) {
        // One that did not fail was closed as it should be.
        if self.watched.in_flight.failure().is_none() {
            self.watched.in_flight.is_done();
        }
    }
}
