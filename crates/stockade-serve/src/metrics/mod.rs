//! Figures of a running server, as Prometheus reads them.
//!
//! Invariant: labels are names of the configuration and words of this program. Nothing that a client, a
//! guest or a server elsewhere chooses becomes a label, so the number of series is bounded.

mod collect;
mod site;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

pub(crate) use site::{Count, Counts, SiteMetrics, Sites};

/// Figures that belong to no site.
#[derive(Debug)]
pub(crate) struct Process {
    started: SystemTime,
    pub(crate) reloads_done: Count,
    pub(crate) reloads_failed: Count,
    last_reload: Mutex<Option<(bool, SystemTime)>>,
    pub(crate) draining: std::sync::atomic::AtomicBool,
}

impl Process {
    /// Counts a reload.
    pub(crate) fn reloaded(&self, done: bool) {
        if done {
            self.reloads_done.add(1);
        } else {
            self.reloads_failed.add(1);
        }
        *self.last_reload.lock() = Some((done, SystemTime::now()));
    }
}

/// Everything that is counted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    pub(crate) sites: Arc<Sites>,
    pub(crate) process: Arc<Process>,
}

/// A figure that is read when Prometheus asks.
pub(crate) struct Reading {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) counter: bool,
    /// Label sets and values. Label values are names of the configuration or of this program.
    pub(crate) values: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// Reads figures that others keep.
pub(crate) type Source = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

impl Metrics {
    /// With further figures from `sources`.
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        let sites = Arc::new(Sites::default());
        let process = Arc::new(Process {
            started: SystemTime::now(),
            reloads_done: Count::default(),
            reloads_failed: Count::default(),
            last_reload: Mutex::new(None),
            draining: false.into(),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collect::SiteCollector(Arc::clone(&sites))));
        registry.register_collector(Box::new(collect::ProcessCollector(Arc::clone(&process))));
        registry.register_collector(Box::new(collect::SourceCollector(sources)));
        Self {
            registry: Arc::new(registry),
            sites,
            process,
        }
    }

    /// The text of all figures (OpenMetrics 1.0).
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// Seconds since 1970.
fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
