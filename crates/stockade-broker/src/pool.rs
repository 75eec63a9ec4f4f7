//! Connections kept for the next request of the same instance to the same target and address.
//!
//! Invariants: a pool belongs to one instance. A connection is given out only for an address that was
//! checked for the request at hand. One that was not read to the end of its response is closed, never
//! kept. None is kept longer than [`IDLE`], and not more than [`MOST_KEPT`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use stockade_http::{Body, Host};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::connector::{self, Form, GuestStream};
use crate::target::Target;

/// How long a connection is kept unused.
const IDLE: Duration = Duration::from_secs(30);
/// Connections kept for one instance.
const MOST_KEPT: usize = 32;
/// Bytes of a response's head.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Fields of a response's head.
pub(crate) const MAX_FIELDS: usize = 128;

/// What a connection must have in common with a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    is_secure: bool,
    host: Host,
    port: u16,
    /// `None` where a proxy resolves the name.
    address: Option<IpAddr>,
    /// The number of the connector: of the certificates, and of the proxy or the tunnel.
    connector: usize,
}

impl Key {
    pub(crate) fn new(target: &Target, address: Option<IpAddr>, connector: usize) -> Self {
        let is_secure = target.scheme.is_secure();
        Self {
            is_secure,
            host: target.host.clone(),
            port: target.port,
            address,
            connector,
        }
    }
}

/// The sending side of a connection. When the last one is dropped the connection is closed at once,
/// whatever it is doing.
pub(crate) enum Sender {
    H1(http1::SendRequest<Body>, AbortOnDropHandle<()>, Form),
    H2(http2::SendRequest<Body>, Arc<AbortOnDropHandle<()>>),
}

/// A request that failed.
pub(crate) struct SendFailure {
    pub(crate) error: hyper::Error,
    /// The request itself, if nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Body>>>,
}

impl Sender {
    /// Begins to speak HTTP over a connection.
    pub(crate) async fn start(stream: GuestStream, form: Form) -> hyper::Result<Self> {
        let is_h2 = connector::is_h2(&stream);
        let stream = TokioIo::new(stream);
        if is_h2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEAD as u32)
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_send_buf_size(64 * 1024)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20))
                .keep_alive_while_idle(true)
                .handshake(stream)
                .await?;
            let task = AbortOnDropHandle::new(tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
            }));
            return Ok(Self::H2(sender, Arc::new(task)));
        }
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_FIELDS)
            .max_buf_size(MAX_HEAD)
            .handshake(stream)
            .await?;
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        }));
        Ok(Self::H1(sender, task, form))
    }

    pub(crate) fn version(&self) -> Version {
        match self {
            Self::H1(..) => Version::HTTP_11,
            Self::H2(..) => Version::HTTP_2,
        }
    }

    /// How requests name their target.
    pub(crate) fn form(&self) -> &Form {
        match self {
            Self::H1(_, _, form) => form,
            Self::H2(..) => &Form::Origin,
        }
    }

    fn is_usable(&self) -> bool {
        match self {
            Self::H1(sender, ..) => sender.is_ready(),
            Self::H2(sender, _) => sender.is_ready(),
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let sent = match self {
            Self::H1(sender, ..) => sender.try_send_request(request).await,
            Self::H2(sender, _) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut failure| {
            let unsent = failure.take_message().map(Box::new);
            SendFailure {
                error: failure.into_error(),
                unsent,
            }
        })
    }
}

struct Kept {
    sender: Sender,
    since: Instant,
}

/// One instance's connections.
#[derive(Default)]
pub(crate) struct Pool {
    kept: Mutex<KeptAll>,
}

#[derive(Default)]
struct KeptAll {
    by_key: HashMap<Key, Vec<Kept>>,
    /// A task maintains the kept connections. There is at most one.
    is_swept: bool,
}

impl Pool {
    /// A connection to one of `keys`, if there is one.
    pub(crate) fn take(&self, keys: impl IntoIterator<Item = Key>) -> Option<(Key, Sender)> {
        let kept = &mut self.kept.lock().by_key;
        for key in keys {
            let Some(list) = kept.get_mut(&key) else {
                continue;
            };
            list.retain(|one| one.sender.is_usable() && one.since.elapsed() < IDLE);
            // The one used last is the least likely to be closed by the other end.
            let sender = match list.last_mut() {
                Some(Kept {
                    sender: Sender::H2(sender, task),
                    since,
                }) => {
                    *since = Instant::now();
                    Some(Sender::H2(sender.clone(), task.clone()))
                }
                Some(Kept {
                    sender: Sender::H1(..),
                    ..
                }) => list.pop().map(|one| one.sender),
                None => None,
            };
            if list.is_empty() {
                kept.remove(&key);
            }
            if let Some(sender) = sender {
                return Some((key, sender));
            }
        }
        None
    }

    /// Keeps a connection that is ready for its next request.
    pub(crate) fn keep(self: &Arc<Self>, key: Key, sender: Sender) {
        let mut kept = self.kept.lock();
        if kept.by_key.values().map(Vec::len).sum::<usize>() >= MOST_KEPT {
            return;
        }
        let list = kept.by_key.entry(key).or_default();
        if matches!(sender, Sender::H2(..)) {
            list.retain(|one| matches!(one.sender, Sender::H1(..)));
        }
        list.push(Kept {
            sender,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Keeps a connection over HTTP/1 as soon as it is ready, if that is soon.
    pub(crate) fn keep_when_ready(self: &Arc<Self>, key: Key, sender: Sender) {
        let Sender::H1(mut sender, task, form) = sender else {
            return;
        };
        if sender.is_ready() {
            return self.keep(key, Sender::H1(sender, task, form));
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let ready = tokio::time::timeout(Duration::from_secs(1), sender.ready()).await;
            if let (Ok(Ok(())), Some(pool)) = (ready, pool.upgrade()) {
                pool.keep(key, Sender::H1(sender, task, form));
            }
        });
    }
}

/// Closes what was not used for long. Ends when nothing is left, or nobody.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = pool.kept.lock();
        kept.by_key.retain(|_, list| {
            list.retain(|one| one.sender.is_usable() && one.since.elapsed() < IDLE);
            !list.is_empty()
        });
        if kept.by_key.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}
