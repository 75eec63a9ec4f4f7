//! The gateway as a whole: start, reload, drain.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::access::Observer;
use crate::limits::Limits;
use crate::listener::accept::Bound;
use crate::listener::connection_limits::Gate;
use crate::listener::options::{Address, ListenError, Listener};
use crate::route::table::Table;

/// Accepts connections and answers requests until it is drained. A clone is the same gateway; when the last
/// one is dropped it accepts no more, and its connections are cut.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    /// Held while listeners change.
    bound: Mutex<Vec<Arc<Bound>>>,
    /// The same, for reading.
    addresses: ArcSwap<Vec<(Arc<str>, Address)>>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<Current>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) phase: Phases,
}

/// What a reload exchanges as a whole.
pub(crate) struct Current {
    pub(crate) table: Table,
    pub(crate) limits: Arc<Limits>,
}

/// Where a gateway is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// What runs may end; nothing new begins.
    Draining,
    /// Nothing may go on.
    Cutting,
}

/// Hears of the gateway's phase.
pub(crate) struct Phases(watch::Receiver<Phase>);

impl Phases {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.clone()
    }
}

impl Shared {
    pub(crate) fn draining(&self) -> bool {
        *self.phase.0.borrow() != Phase::Serving
    }
}

/// What a drain left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that ended in time, WebSockets included.
    pub ended: usize,
    /// Connections that were cut at the deadline.
    pub cut: usize,
    /// WebSockets among those that were cut.
    pub sockets_cut: usize,
}

/// Figures of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GatewayStats {
    /// Open connections.
    pub connections: usize,
    /// Requests that have no complete response yet.
    pub requests: usize,
    /// Open WebSockets.
    pub sockets: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
}

impl Gateway {
    /// Binds all listeners and serves.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a listener can't be opened; none is open then.
    pub async fn start(
        listeners: Vec<Listener>,
        table: Table,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ListenError> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(Current {
                table,
                limits: Arc::new(limits),
            }),
            gate: Arc::default(),
            observer,
            phase: Phases(phases),
        });
        let gateway = Self {
            inner: Arc::new(Inner {
                shared,
                phase,
                bound: Mutex::default(),
                addresses: ArcSwap::default(),
            }),
        };
        gateway.listen(listeners, || {}).await?;
        Ok(gateway)
    }

    /// Where it listens, by the listeners' names, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, Address)> {
        self.inner.addresses.load().to_vec()
    }

    /// Takes a new table, limits and listeners at once. Requests that run go on with what they began with;
    /// connections and WebSockets live on, also those of a listener that is gone. A listener whose address
    /// stays keeps its socket. A connection keeps its TLS and its limits of time and number; the limits of
    /// a request are the new ones from its next request on.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a new listener can't be opened; everything stays as it was.
    pub async fn reload(
        &self,
        listeners: Vec<Listener>,
        table: Table,
        limits: Limits,
    ) -> Result<(), ListenError> {
        let current = Arc::new(Current {
            table,
            limits: Arc::new(limits),
        });
        self.listen(listeners, || self.inner.shared.current.store(current))
            .await
    }

    /// Binds what is new, then does `change`, then lets go of what is gone.
    async fn listen(
        &self,
        listeners: Vec<Listener>,
        change: impl FnOnce(),
    ) -> Result<(), ListenError> {
        let mut bound = self.inner.bound.lock().await;
        if self.inner.shared.draining() {
            // Nothing opens again what a drain has closed.
            change();
            return Ok(());
        }
        let mut next = Vec::with_capacity(listeners.len());
        let mut kept = Vec::new();
        for listener in listeners {
            match bound
                .iter()
                .find(|bound| bound.asked_for(&listener.address))
            {
                Some(same) => {
                    next.push(Arc::clone(same));
                    kept.push((Arc::clone(same), listener));
                }
                None => next.push(Arc::new(Bound::bind(listener)?)),
            }
        }
        change();
        for (same, listener) in kept {
            same.exchange(listener);
        }
        for new in &next {
            if !bound.iter().any(|old| Arc::ptr_eq(old, new)) {
                new.accept(&self.inner.shared);
            }
        }
        for old in bound.iter() {
            if !next.iter().any(|new| Arc::ptr_eq(old, new)) {
                old.close().await;
            }
        }
        let addresses = next
            .iter()
            .map(|bound| (bound.name(), bound.address()))
            .collect();
        self.inner.addresses.store(Arc::new(addresses));
        *bound = next;
        Ok(())
    }

    /// Accepts no more, lets what runs end, and cuts what is left at `deadline`. WebSockets are closed with
    /// code 1001 at once.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let inner = &self.inner;
        let mut bound = inner.bound.lock().await;
        for bound in bound.drain(..) {
            bound.close().await;
        }
        inner.addresses.store(Arc::default());
        let gate = &inner.shared.gate;
        let open = gate.open();
        inner.phase.send_replace(Phase::Draining);
        let _ = timeout(deadline, gate.until_empty()).await;
        let cut = gate.open();
        let sockets_cut = gate.sockets();
        inner.phase.send_replace(Phase::Cutting);
        if cut > 0 {
            // Tasks end as soon as they are polled; only one that never yields could take longer.
            let _ = timeout(Duration::from_secs(1), gate.until_empty()).await;
        }
        Drained {
            ended: open.saturating_sub(cut),
            cut,
            sockets_cut,
        }
    }

    /// Figures of the moment.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let gate = &self.inner.shared.gate;
        GatewayStats {
            connections: gate.open(),
            requests: gate.requests(),
            sockets: gate.sockets(),
            accepted: gate.accepted(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for bound in self.bound.get_mut().drain(..) {
            bound.stop();
        }
        self.phase.send_replace(Phase::Cutting);
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("addresses", &self.addresses())
            .field("stats", &self.stats())
            .finish()
    }
}
