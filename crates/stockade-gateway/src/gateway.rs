//! The gateway as a whole: start, reload, drain.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Observer;
use crate::limits::Limits;
use crate::listener::{Address, ListenError, Listener};
use crate::route::Table;

/// Accepts connections and answers requests until it is drained. A clone is the same gateway.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    observer: Arc<dyn Observer>,
}

/// What a drain left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that ended in time.
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
        let _ = (listeners, table, limits);
        Ok(Self {
            inner: Arc::new(Inner { observer }),
        })
    }

    /// Where it listens, by the listeners' names, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, Address)> {
        let _ = &self.inner.observer;
        Vec::new()
    }

    /// Takes a new table, limits and listeners at once. Requests that run go on with what they began with;
    /// connections and WebSockets live on, also those of a listener that is gone. A listener whose address
    /// stays keeps its socket. Limits hold for new connections, their request limits for new requests.
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
        let _ = (listeners, table, limits);
        Ok(())
    }

    /// Accepts no more, lets what runs end, and cuts what is left at `deadline`.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let _ = deadline;
        Drained::default()
    }

    /// Figures of the moment.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        GatewayStats::default()
    }
}
