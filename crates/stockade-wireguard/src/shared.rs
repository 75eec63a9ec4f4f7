//! What a tunnel, its task and its connections share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::TunnelConfig;
use crate::peers::PeerStatus;
use crate::stack::{Stack, TunnelLimits};

/// Looks up the name of an endpoint, outside the tunnel. The operator wrote it.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Option<IpAddr>> + Send + Sync>;

/// What a tunnel shares with its connections and its task.
pub(crate) struct Shared {
    pub(crate) config: TunnelConfig,
    pub(crate) stack: Mutex<Stack>,
    /// There is something to send, or the tunnel is over.
    pub(crate) wake: Notify,
    pub(crate) limits: TunnelLimits,
    pub(crate) resolve: Resolve,
    /// The task runs.
    pub(crate) runs: AtomicBool,
    /// Nobody has the tunnel any more.
    pub(crate) is_over: AtomicBool,
    pub(crate) status: Mutex<Vec<PeerStatus>>,
}
