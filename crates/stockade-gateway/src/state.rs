//! What all connections of a gateway share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::access::Observer;
use crate::filter::FilterChain;
use crate::limits::Limits;
use crate::listener::connection_limits::ConnectionLimiter;
use crate::route::table::RouteTable;

/// What all connections of a gateway share.
pub(crate) struct GatewayState {
    pub(crate) config: ArcSwap<ActiveConfig>,
    pub(crate) connections: Arc<ConnectionLimiter>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// What a reload replaces as a whole.
pub(crate) struct ActiveConfig {
    pub(crate) table: RouteTable,
    pub(crate) filters: FilterChain,
    pub(crate) limits: Arc<Limits>,
}

impl ActiveConfig {
    pub(crate) fn new(table: RouteTable, limits: Limits) -> Self {
        Self {
            filters: FilterChain::new(&table.options),
            table,
            limits: Arc::new(limits),
        }
    }
}

/// Where a gateway is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Running requests may end; no new one begins.
    Draining,
    /// Everything ends now.
    Cutting,
}

impl GatewayState {
    pub(crate) fn draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }
}
