//! Metrics of a running server, as Prometheus reads them (OpenMetrics 1.0).
//!
//! What is counted lies in `prometheus-client`'s counters, histograms and families, registered once. What others
//! count or measure themselves is read when somebody asks (`server/moment.rs`).
//!
//! Invariant: labels are names of the configuration, names of variants of this program's enums, and the names that this
//! program gives to versions of code that get requests. Nothing that a client, a guest or a server elsewhere chooses
//! becomes a label, so the number of series is bounded.

mod history;
mod latency;
mod process;
mod sample;
mod site;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub(crate) use history::History;
pub(crate) use process::Process;
pub(crate) use sample::Sample;
pub(crate) use site::{Counts, SECONDS, SiteMetrics, SiteTable};

/// The label of what is counted by its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

/// All metrics, ready to be read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) registry: Arc<Registry>,
    pub(crate) process: Arc<Process>,
}

impl Metrics {
    /// The text of all metrics.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// A new counter of the registry.
pub(crate) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Writes a counter that is kept elsewhere.
pub(crate) fn write_counter(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(encoder)
}

/// Writes a value of this moment.
pub(crate) fn write_gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: f64,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(encoder)
}

/// Seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
