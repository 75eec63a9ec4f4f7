//! A running server: started from a configuration, reloaded, drained.
//!
//! Invariants:
//! 1. A reload takes effect as a whole or not at all. What can fail is done first: reading, checking, TLS,
//!    code, folders, state, the first mirror of each changed site, new listeners. Then tables are swapped.
//! 2. A site that did not change keeps its mirrors, and the requests in them.
//! 3. Reloads come one after the other.

mod announce;
mod apply;
mod run;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use stockade_config::{Config, Diagnostics};
use stockade_gateway::{Gateway, ListenError, TableError};
use stockade_policy::Isolation;
use stockade_state::{OpenError, SqliteStore, Store};
use stockade_supervisor::Wall;

pub use run::{Stopped, serve};

use crate::control::ControlError;
use crate::metrics::Metrics;
use crate::observe::{AuditFigures, GatewayFigures, Logs};
use crate::site::{Shared, Site, SiteError};
use crate::status::StatusListener;
use crate::tls::{CertificatesError, TlsStores};

/// How to serve.
pub struct ServeOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// The walls there are; none may run guests in this process.
    pub walls: Vec<(Isolation, Arc<dyn Wall>)>,
    /// Isolates that may compute at length at the same time.
    pub threads: usize,
    /// Tells the user what was started, line by line.
    pub say: fn(&str),
}

/// Why there is no server, or no new configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(Diagnostics),
    /// The log cannot be written.
    #[error(
        "cannot write the log to {path}: {source}\n  fix: correct logging.file, or let this user write there"
    )]
    Log {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A site cannot be made.
    #[error("instance {name}: {source}")]
    Site {
        /// Which.
        name: String,
        /// Why.
        source: Box<SiteError>,
    },
    /// Certificates, keys, authorities or revocation lists.
    #[error(transparent)]
    Tls(#[from] CertificatesError),
    /// A listener.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Routes that cannot be told apart.
    #[error("{0}")]
    Routes(#[from] TableError),
    /// The listener for metrics.
    #[error(
        "cannot listen on {address} for metrics: {source}\n  fix: correct metrics.listen, or end what listens there"
    )]
    Status {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shared state.
    #[error("cannot open the shared state: {0}")]
    State(#[from] OpenError),
    /// What cannot change while the server runs.
    #[error("{0} cannot change while the server runs\n  fix: restart it")]
    Fixed(&'static str),
    /// Something of the system.
    #[error("{what}: {source}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// What runs.
pub(crate) struct Server {
    options: ServeOptions,
    shared: Arc<Shared>,
    gateway_figures: Arc<GatewayFigures>,
    audit: Arc<AuditFigures>,
    /// Opened when the first site needs it.
    store: Option<(PathBuf, SqliteStore, Arc<dyn Store>)>,
    now: Arc<Now>,
    status: Option<(stockade_config::Metrics, StatusListener)>,
    /// Instances are numbered.
    next: u64,
    /// Sites that are being drained.
    drains: tokio::task::JoinSet<()>,
}

/// What is in use now; read by figures and health as well.
pub(crate) struct Now {
    pub(crate) gateway: parking_lot::Mutex<Option<Gateway>>,
    pub(crate) config: arc_swap::ArcSwapOption<Config>,
    pub(crate) sites: arc_swap::ArcSwap<BTreeMap<String, Arc<Site>>>,
    pub(crate) tls: arc_swap::ArcSwap<TlsStores>,
    pub(crate) store: arc_swap::ArcSwapOption<SqliteStore>,
    pub(crate) metrics: Metrics,
    pub(crate) logs: Arc<Logs>,
}
