//! Connections of clients that are not HTTP: from a listener to the `connect` handler of a site.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use stockade_capability::{ErrorName, Opened, Pipe};
use stockade_config::Listener;
use stockade_gateway::{ByteStream, StreamConnection, StreamTarget, Transport};
use stockade_protocol::GuestError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::directory::Directory;

/// A site, for the connections of one listener. Finds at each connection what answers for the site now.
pub(crate) struct SiteStreams {
    name: String,
    /// Where the listener listens.
    local: String,
    directory: Arc<Directory>,
    places: Arc<Semaphore>,
    idle: Duration,
    life: Duration,
}

impl SiteStreams {
    /// For a listener whose connections go to the site `name`.
    pub(crate) fn new(name: String, listener: &Listener, directory: &Arc<Directory>) -> Self {
        Self {
            name,
            local: listener.address.to_string(),
            directory: Arc::clone(directory),
            places: Arc::new(Semaphore::new(listener.connections)),
            idle: listener.idle_timeout,
            life: listener.lifetime,
        }
    }
}

impl StreamTarget for SiteStreams {
    fn carry(&self, connection: StreamConnection) -> BoxFuture<'static, ()> {
        let StreamConnection {
            stream,
            peer,
            listener,
            transport,
        } = connection;
        let (name, local) = (self.name.clone(), self.local.clone());
        let directory = Arc::clone(&self.directory);
        let (idle, life) = (self.idle, self.life);
        let place = Arc::clone(&self.places).try_acquire_owned();
        Box::pin(async move {
            let Ok(place) = place else {
                tracing::debug!(instance = name, %listener, "a connection was closed: as many are open as may be");
                return;
            };
            // A site that goes on sending to an address from which nothing comes does not keep the flow.
            let stamps_writes = transport != Transport::Datagrams;
            let (watched, mut clock) = Watched::new(stream, stamps_writes);
            // Ends with this future: the connection closes then.
            let (here, gone) = oneshot::channel::<()>();
            let closed = clock.closed();
            let pipe = Pipe {
                stream: Box::new(watched),
                opened: Opened {
                    remote_address: Some(peer.to_string()),
                    local_address: Some(local),
                },
                start_tls: None,
                over: Some(Box::pin(async move {
                    tokio::select! {
                        error = clock.over(idle, life) => error,
                        _ = gone => ErrorName::Type.error("the server is being stopped"),
                    }
                })),
            };
            let transport = match transport {
                Transport::Plain => stockade_instance::Transport::Tcp,
                Transport::Tls => stockade_instance::Transport::Tls,
                Transport::Datagrams => stockade_instance::Transport::Udp,
            };
            if let Err(error) = directory.connect(&name, pipe, transport).await {
                // What the handler threw is logged where it was thrown, within bounds.
                tracing::debug!(instance = name, %listener, %error, "a connection was not taken to its end");
                return;
            }
            // The handler is done, and the connection may not be.
            closed.await;
            drop((place, here));
        })
    }
}

/// A client's bytes, and when the last of them passed.
struct Watched {
    stream: Box<dyn ByteStream>,
    shared: Arc<Shared>,
    stamps_writes: bool,
    /// Dropped with the stream.
    _open: oneshot::Sender<()>,
}

struct Shared {
    begin: Instant,
    /// Milliseconds from the beginning to the last byte.
    last: AtomicU64,
}

impl Shared {
    fn stamp(&self) {
        let since = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }
}

struct Clock {
    shared: Arc<Shared>,
    open: Option<oneshot::Receiver<()>>,
}

impl Watched {
    /// `stamps_writes`: bytes to the client count as those from there do.
    fn new(stream: Box<dyn ByteStream>, stamps_writes: bool) -> (Self, Clock) {
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            last: AtomicU64::new(0),
        });
        let (open, closed) = oneshot::channel();
        let clock = Clock {
            shared: Arc::clone(&shared),
            open: Some(closed),
        };
        let watched = Self {
            stream,
            shared,
            stamps_writes,
            _open: open,
        };
        (watched, clock)
    }
}

impl Clock {
    /// Completes when the stream is dropped. For the first caller; for others at once.
    fn closed(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let open = self.open.take();
        async move {
            if let Some(open) = open {
                let _ = open.await;
            }
        }
    }

    /// Completes when the connection has been idle for too long, or has lived for as long as it may.
    async fn over(self, idle: Duration, life: Duration) -> GuestError {
        let begin = self.shared.begin;
        loop {
            let last = Duration::from_millis(self.shared.last.load(Ordering::Relaxed));
            let (silent, end, now) = (begin + last + idle, begin + life, Instant::now());
            if now >= end {
                let why = format!("the connection took longer than {life:?}");
                return ErrorName::Own("TimeoutError").error(why);
            }
            if now >= silent {
                let why = format!("the client sent and took nothing for {idle:?}");
                return ErrorName::Own("TimeoutError").error(why);
            }
            tokio::time::sleep_until(silent.min(end)).await;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.shared.stamp();
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, data));
        if self.stamps_writes {
            self.shared.stamp();
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
