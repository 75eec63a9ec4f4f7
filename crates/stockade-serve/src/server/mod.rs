//! A running server: started from a configuration, reloaded, drained.
//!
//! Invariants:
//! 1. A reload takes effect as a whole or not at all (`subsystem/mod.rs`).
//! 2. A site that did not change keeps its mirrors, and the requests in them.
//! 3. Reloads come one after the other.

mod announce;
mod code;
mod deploy;
mod health;
mod moment;
mod parts;
mod run;
mod service_manager;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use stockade_gateway::Gateway;
use stockade_limits::Isolation;
use stockade_supervisor::{IsolationBackend, Supervisor};

pub use run::{Stopped, serve};

use crate::admin::Admin;
use crate::deployments::OpenDeployments;
use crate::development::Development;
use crate::keys::OpenKeys;
use crate::metrics::Metrics;
use crate::observe::Logs;
use crate::previews::Previews;
use crate::running::Snapshot;
use crate::subsystem::{Drains, OpenStore, Subsystem};

/// How to serve.
pub struct ServeOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// The isolation backends; none may run guests in this process.
    pub backends: Vec<(Isolation, Arc<dyn IsolationBackend>)>,
    /// The version of the engine that runs guests, for receipts.
    pub v8: &'static str,
    /// Isolates that may compute at length at the same time.
    pub threads: usize,
    /// Reports to the user what was started, line by line.
    pub say: fn(&str),
    /// For `stockade dev`: how the configuration is made, in place of the file, of which only the name is used then.
    pub development: Option<Development>,
}

/// A server: what runs, and what a reload needs to change it.
pub(crate) struct Server {
    options: ServeOptions,
    supervisor: Supervisor,
    gateway: Gateway,
    logs: Arc<Logs>,
    metrics: Metrics,
    /// In the order in which they prepare and commit.
    subsystems: Vec<Box<dyn Subsystem>>,
    running: Snapshot,
    /// The shared state, once a site has needed it.
    store: OpenStore,
    /// The API keys, once a site has asked for them.
    keys: OpenKeys,
    drains: Drains,
    previews: Arc<Previews>,
    /// Uploaded code, once a configuration has named its folder.
    deployments: OpenDeployments,
    /// The files of the configuration in use, for watching.
    sources: Vec<PathBuf>,
    /// What the admin API has of it.
    admin: Arc<Admin>,
}
