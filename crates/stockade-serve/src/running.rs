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
use stockade_limits::Counters;
use stockade_state::SqliteStore;
use stockade_tls::TlsStore;
use stockade_trace::{TraceOptions, Tracing};

use crate::deployments::Sticky;
use crate::site::Site;
use crate::tls::TlsStores;
use crate::token_keys::FetchedKeys;

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
    /// The public keys of tokens of each instance that has an address for them.
    pub(crate) token_keys: BTreeMap<String, Arc<FetchedKeys>>,
    /// The counters of what clients use; none where nothing is limited.
    pub(crate) counters: Option<Arc<Counters>>,
    /// Where the admin API is served, besides the control socket.
    pub(crate) admin_address: Option<Address>,
    /// What traces requests.
    pub(crate) traced: Option<Traced>,
    /// Where metrics and health are served.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Each with the version that has most requests.
    pub(crate) sites: BTreeMap<String, Arc<Site>>,
    /// All versions of each site that get requests.
    pub(crate) traffic: BTreeMap<String, SiteTraffic>,
}

impl Running {
    /// Adds a site, which has a version at least.
    pub(crate) fn add(&mut self, name: &str, traffic: SiteTraffic) {
        if let Some((_, main)) = traffic.shares.first() {
            self.sites.insert(name.to_owned(), Arc::clone(main));
        }
        self.traffic.insert(name.to_owned(), traffic);
    }
}

/// Versions of a site, each with its share of the requests in percent, the largest first.
#[derive(Clone)]
pub(crate) struct SiteTraffic {
    pub(crate) shares: Vec<(u8, Arc<Site>)>,
    pub(crate) sticky: Sticky,
}

impl SiteTraffic {
    /// Whether these are the same versions, which were not started again.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.sites()
            .map(Arc::as_ptr)
            .eq(other.sites().map(Arc::as_ptr))
    }

    /// Whether each version takes requests, or has no mirror because none is wanted.
    pub(crate) fn is_ready(&self) -> bool {
        self.sites().all(|site| site.is_ready())
    }

    /// The versions of the instance that run.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.shares.iter().map(|(_, site)| site)
    }
}

/// What traces requests, and how.
pub(crate) struct Traced {
    pub(crate) options: TraceOptions,
    pub(crate) tracing: Tracing,
}

impl Running {
    /// What runs of this configuration when nothing is made of it yet.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            tls: TlsStores::default(),
            listener_tls: Vec::new(),
            admin_tls: None,
            store: None,
            keys: None,
            token_keys: BTreeMap::new(),
            counters: None,
            admin_address: None,
            traced: None,
            metrics_address: None,
            sites: BTreeMap::new(),
            traffic: BTreeMap::new(),
        }
    }
}

/// Holds what runs; empty until the first configuration is in use.
pub(crate) type Snapshot = Arc<ArcSwapOption<Running>>;
