//! The gateway as a whole: start, reload, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::timeout;

use crate::access::{Observer, Unobserved};
use crate::http::serve::{serve, serve_flow};
use crate::limits::Limits;
use crate::listener::accept::BoundListener;
use crate::listener::flows::DatagramLimits;
use crate::listener::inherited::InheritedSockets;
use crate::listener::options::{Address, ListenError, Listener, ProxyProtocol};
use crate::rate::RouteLimits;
use crate::route::pattern::Pattern;
use crate::route::table::{Route, RouteTable, TableOptions};
use crate::state::{ActiveConfig, GatewayState, Phase};
use crate::target::Target;

/// Accepts connections and answers requests until it is drained. A clone is the same gateway; when the last
/// one is dropped it accepts no more, and its connections are cut.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<GatewayInner>,
}

struct GatewayInner {
    state: Arc<GatewayState>,
    phase: watch::Sender<Phase>,
    /// Locked while listeners change.
    bound: Mutex<Vec<Arc<BoundListener>>>,
    /// Names and addresses of `bound`, for readers that must not wait for a change.
    addresses: ArcSwap<Vec<(Arc<str>, Address)>>,
    inherited: InheritedSockets,
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

/// Current numbers of connections and requests.
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
    /// A gateway without listeners and routes; [`Gateway::reload`] gives it some.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self::inheriting(InheritedSockets::default(), observer)
    }

    /// A gateway without listeners and routes, whose listener at the address of an inherited socket will take that socket.
    pub fn inheriting(inherited: InheritedSockets, observer: Arc<dyn Observer>) -> Self {
        let (phase, phase_receiver) = watch::channel(Phase::Serving);
        let state = Arc::new(GatewayState {
            config: ArcSwap::from_pointee(ActiveConfig::new(
                RouteTable::default(),
                Limits::default(),
            )),
            connections: Arc::default(),
            observer,
            phase: phase_receiver,
        });
        Self {
            inner: Arc::new(GatewayInner {
                state,
                phase,
                bound: Mutex::default(),
                addresses: ArcSwap::default(),
                inherited,
            }),
        }
    }

    /// Binds all listeners and serves.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a listener can't be opened; none is open then.
    pub async fn start(
        listeners: Vec<Listener>,
        table: RouteTable,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ListenError> {
        let gateway = Self::new(observer);
        gateway.reload(listeners, table, limits).await?;
        Ok(gateway)
    }

    /// Listens on one address over plain HTTP, and gives every request to one target. The address that is returned has
    /// the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if the address cannot be listened on.
    pub async fn of_one(
        address: SocketAddr,
        target: Arc<dyn Target>,
        limits: Limits,
    ) -> Result<(Self, SocketAddr), ListenError> {
        let listener = Listener {
            name: address.to_string().into(),
            address: Address::Tcp(address),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            http2: true,
            streams: None,
            datagrams: DatagramLimits::default(),
        };
        let route = Route::new("all", vec![Pattern::any()], target);
        // One pattern that matches everything is a table.
        let table = RouteTable::new(vec![route], TableOptions::default()).unwrap_or_default();
        let gateway = Self::start(vec![listener], table, limits, Arc::new(Unobserved)).await?;
        let bound = gateway.addresses().into_iter().next();
        let address = match bound {
            Some((_, Address::Tcp(bound))) => bound,
            _ => address,
        };
        Ok((gateway, address))
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
        table: RouteTable,
        limits: Limits,
    ) -> Result<(), ListenError> {
        let prepared = self.prepare(listeners, table, limits).await?;
        prepared.commit().await;
        Ok(())
    }

    /// The fallible part of [`Gateway::reload`]: binds what is new and changes nothing yet. Other reloads and
    /// [`Gateway::drain`] wait until what it returns is committed or dropped.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a new listener can't be opened.
    pub async fn prepare(
        &self,
        listeners: Vec<Listener>,
        table: RouteTable,
        limits: Limits,
    ) -> Result<PreparedReload<'_>, ListenError> {
        let mut prepared = PreparedReload {
            state: &self.inner.state,
            addresses: &self.inner.addresses,
            bound: self.inner.bound.lock().await,
            config: Arc::new(ActiveConfig::new(table, limits)),
            next: Vec::new(),
        };
        if self.inner.state.draining() {
            // Nothing opens again what a drain has closed.
            return Ok(prepared);
        }
        for listener in listeners {
            let mut open = prepared.bound.iter();
            let open = open.find(|bound| bound.asked_for(&listener.address));
            prepared.next.push(match open {
                Some(same) => (Arc::clone(same), Some(listener)),
                None => (
                    Arc::new(BoundListener::bind(listener, &self.inner.inherited)?),
                    None,
                ),
            });
        }
        Ok(prepared)
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
        let connections = &inner.state.connections;
        let open = connections.open();
        inner.phase.send_replace(Phase::Draining);
        let _ = timeout(deadline, connections.until_empty()).await;
        let cut = connections.open();
        let sockets_cut = connections.sockets();
        inner.phase.send_replace(Phase::Cutting);
        if cut > 0 {
            // Tasks end as soon as they are polled; only one that never yields could take longer.
            let _ = timeout(Duration::from_secs(1), connections.until_empty()).await;
        }
        Drained {
            ended: open.saturating_sub(cut),
            cut,
            sockets_cut,
        }
    }

    /// The limits of each route that has some, by the route's label.
    #[must_use]
    pub fn limits(&self) -> Vec<(Arc<str>, Arc<RouteLimits>)> {
        self.inner.state.config.load().table.limits().to_vec()
    }

    /// What is open at this moment.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let connections = &self.inner.state.connections;
        GatewayStats {
            connections: connections.open(),
            requests: connections.requests(),
            sockets: connections.sockets(),
            accepted: connections.accepted(),
        }
    }
}

/// A reload whose sockets are bound. Dropping it closes them, and everything stays as it was.
#[must_use]
pub struct PreparedReload<'a> {
    state: &'a Arc<GatewayState>,
    addresses: &'a ArcSwap<Vec<(Arc<str>, Address)>>,
    bound: MutexGuard<'a, Vec<Arc<BoundListener>>>,
    config: Arc<ActiveConfig>,
    /// Sockets that stay, each with its new settings, and new ones without.
    next: Vec<(Arc<BoundListener>, Option<Listener>)>,
}

impl PreparedReload<'_> {
    /// Where it will listen, in the order of the listeners, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let next = self.next.iter();
        next.map(|(bound, _)| bound.address()).collect()
    }

    /// Serves by the new table, limits and listeners from now on. What is returned waits until the addresses of
    /// listeners that are gone are free again.
    pub fn commit(mut self) -> impl Future<Output = ()> + Send + use<> {
        self.state.config.store(Arc::clone(&self.config));
        let mut next = Vec::with_capacity(self.next.len());
        for (bound, settings) in self.next.drain(..) {
            match settings {
                Some(listener) => bound.replace(listener),
                None => {
                    let state = Arc::clone(self.state);
                    let of_flows = Arc::clone(self.state);
                    bound.accept(
                        move |accepted| serve(Arc::clone(&state), accepted),
                        &self.state.observer,
                        move |flow, listener| serve_flow(&of_flows, flow, listener),
                    );
                }
            }
            next.push(bound);
        }
        let addresses = next.iter().map(|bound| (bound.name(), bound.address()));
        self.addresses.store(Arc::new(addresses.collect()));
        let old = std::mem::replace(&mut *self.bound, next);
        let stays =
            |old: &&Arc<BoundListener>| self.bound.iter().any(|bound| Arc::ptr_eq(old, bound));
        let gone = old.iter().filter(|old| !stays(old));
        let closing: Vec<_> = gone.filter_map(|gone| gone.stop()).collect();
        async move {
            for task in closing {
                // It was cancelled; then its socket is closed.
                let _ = task.await;
            }
        }
    }
}

impl Drop for PreparedReload<'_> {
    fn drop(&mut self) {
        for (bound, settings) in self.next.drain(..) {
            if settings.is_none() {
                bound.stop();
            }
        }
    }
}

impl Drop for GatewayInner {
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
