//! What runs, as one snapshot.
//!
//! Invariant: metrics, health and the next reload hold the [`Snapshot`]. Nothing that lies in a [`Running`] does, so
//! that an old one is freed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use stockade_auth::Keys;
use stockade_config::Config;
use stockade_gateway::Address;
use stockade_state::SqliteStore;
use stockade_tls::TlsStore;

use crate::site::Site;
use crate::tls::TlsStores;

/// What runs. Read as a whole, replaced as a whole.
pub(crate) struct Running {
    pub(crate) config: Arc<Config>,
    pub(crate) tls: TlsStores,
    /// The certificates of each listener, in the configuration's order; none where it is plain.
    pub(crate) listener_tls: Vec<Option<Arc<TlsStore>>>,
    pub(crate) store: Option<SqliteStore>,
    /// The certificates of the listener of the admin API.
    pub(crate) admin_tls: Option<Arc<TlsStore>>,
    /// The API keys, once an instance or the admin API has asked for them.
    pub(crate) keys: Option<Keys>,
    /// Where the admin API is served, besides the control socket.
    pub(crate) admin_address: Option<Address>,
    /// Where metrics and health are served.
    pub(crate) metrics_address: Option<SocketAddr>,
    pub(crate) sites: BTreeMap<String, Arc<Site>>,
}

impl Running {
    /// Of this configuration, with nothing made of it yet.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            tls: TlsStores::default(),
            listener_tls: Vec::new(),
            admin_tls: None,
            store: None,
            keys: None,
            admin_address: None,
            metrics_address: None,
            sites: BTreeMap::new(),
        }
    }
}

/// Holds what runs; empty until the first configuration is in use.
pub(crate) type Snapshot = Arc<ArcSwapOption<Running>>;
