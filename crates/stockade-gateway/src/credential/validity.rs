//! Whether the credential of a request is still valid while the request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use stockade_auth::{Granted, Keys};
use tokio::sync::Notify;

use super::Caller;

/// Becomes ready when the credential of a request is no longer valid.
pub(crate) enum Validity {
    /// The connection waits, and polls its request again when the credential ends.
    OfConnection(Arc<KeyWatch>),
    /// The request waits by itself.
    Own(BoxFuture<'static, ()>),
}

impl Validity {
    /// The validity of the credential of a request, on the connection with this watch.
    pub(crate) fn of(caller: &Caller, watch: &Arc<KeyWatch>) -> Self {
        match caller {
            Caller::Key { keys, granted } if watch.watches(keys, granted) => {
                Self::OfConnection(Arc::clone(watch))
            }
            caller => Self::Own(caller.until_invalid()),
        }
    }

    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::OfConnection(watch) if watch.has_ended() => Poll::Ready(()),
            Self::OfConnection(_) => Poll::Pending,
            Self::Own(ended) => ended.as_mut().poll(cx),
        }
    }
}

/// Waits on behalf of all requests of a connection until their API key is no longer valid.
///
/// To wait costs each request more than to check the key. So a connection with one request at a time waits once for
/// all that have the same key, from the second one on.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    /// Requests run side by side in tasks of their own, which the connection cannot poll.
    multiplexed: bool,
    last: Mutex<Option<Watched>>,
    /// `last` was changed.
    changed: Notify,
    /// The key of `last` is no longer valid.
    ended: AtomicBool,
}

struct Watched {
    granted: Arc<Granted>,
    /// A second request had it.
    waited_for: bool,
    /// Until the connection takes it.
    ends: Option<BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl KeyWatch {
    pub(crate) fn new(multiplexed: bool) -> Self {
        Self {
            multiplexed,
            last: Mutex::default(),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// Takes the key of a request, which is valid. Returns whether the connection waits for its end.
    fn watches(&self, keys: &Keys, granted: &Arc<Granted>) -> bool {
        if self.multiplexed {
            return false;
        }
        let mut last = self.last.lock();
        match &mut *last {
            Some(watched) if Arc::ptr_eq(&watched.granted, granted) => {
                if !std::mem::replace(&mut watched.waited_for, true) {
                    watched.ends = Some(Box::pin(keys.until_invalid_while_open(granted)));
                    self.changed.notify_one();
                }
                true
            }
            _ => {
                let waited = last.replace(Watched {
                    granted: Arc::clone(granted),
                    waited_for: false,
                    ends: None,
                });
                self.ended.store(false, Relaxed);
                if waited.is_some_and(|waited| waited.waited_for) {
                    self.changed.notify_one();
                }
                false
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

/// The part of a [`KeyWatch`] that waits, in the task of the connection.
pub(crate) struct KeyWaiter<'a> {
    watch: &'a KeyWatch,
    waits: Option<(Arc<Granted>, BoxFuture<'static, ()>)>,
}

impl<'a> KeyWaiter<'a> {
    pub(crate) fn new(watch: &'a KeyWatch) -> Self {
        Self { watch, waits: None }
    }

    /// Waits until the key that requests have is no longer valid. They are to be polled then.
    pub(crate) async fn wait(&mut self) {
        loop {
            let ends = async {
                match &mut self.waits {
                    Some((_, ends)) => ends.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.watch.changed.notified() => {
                    let mut last = self.watch.last.lock();
                    self.waits = last.as_mut().and_then(|watched| {
                        Some((Arc::clone(&watched.granted), watched.ends.take()?))
                    });
                }
                () = ends => {
                    let ended = self.waits.take();
                    let mut last = self.watch.last.lock();
                    let is_last = match (&ended, &*last) {
                        (Some((ended, _)), Some(last)) => Arc::ptr_eq(ended, &last.granted),
                        _ => false,
                    };
                    if is_last {
                        // A clock that is set back may make it valid again.
                        *last = None;
                        self.watch.ended.store(true, Relaxed);
                        return;
                    }
                }
            }
        }
    }
}
