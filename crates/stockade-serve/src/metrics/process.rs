//! Metrics of the process and of its reloads.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::{unix, write_gauge};

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadResult {
    result: &'static str,
}

const DONE: ReloadResult = ReloadResult { result: "ok" };
const REFUSED: ReloadResult = ReloadResult { result: "error" };

/// Metrics that belong to no site.
pub(crate) struct Process {
    reloads: Family<ReloadResult, Counter>,
    last_reload_successful: Gauge,
    last_reload: Gauge<f64, AtomicU64>,
    refused: Mutex<Option<RefusedReload>>,
    draining: Gauge,
}

/// A reload after which the configuration before it stayed in use.
#[derive(Clone)]
pub(crate) struct RefusedReload {
    pub(crate) at: SystemTime,
    pub(crate) why: String,
}

impl Process {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let started = unix(SystemTime::now());
        let process = Self {
            reloads: Family::default(),
            last_reload_successful: Gauge::default(),
            last_reload: Gauge::default(),
            refused: Mutex::default(),
            draining: Gauge::default(),
        };
        drop(process.reloads.get_or_create(&DONE));
        drop(process.reloads.get_or_create(&REFUSED));
        process.last_reload_successful.set(1);
        process.last_reload.set(started);
        registry.register(
            "stockade_config_reload",
            "Times the configuration was read again",
            process.reloads.clone(),
        );
        registry.register(
            "stockade_start_time_seconds",
            "When the server was started, since 1970",
            ConstGauge::new(started),
        );
        registry.register(
            "stockade_draining",
            "1 while the server takes no more connections",
            process.draining.clone(),
        );
        registry.register(
            "stockade_config_last_reload_successful",
            "1 unless the last reload was refused",
            process.last_reload_successful.clone(),
        );
        registry.register(
            "stockade_config_last_reload_timestamp_seconds",
            "When the configuration was last read, since 1970",
            process.last_reload.clone(),
        );
        registry.register_collector(Box::new(ProcessCollector));
        process
    }

    /// Counts a reload, and keeps why it was refused.
    pub(crate) fn reloaded(&self, outcome: Result<(), &str>) {
        let at = SystemTime::now();
        let result = if outcome.is_ok() { DONE } else { REFUSED };
        self.reloads.get_or_create(&result).inc();
        self.last_reload_successful.set(outcome.is_ok().into());
        self.last_reload.set(unix(at));
        *self.refused.lock() = outcome.err().map(|why| RefusedReload {
            at,
            why: why.to_owned(),
        });
    }

    /// The last reload, if it was refused.
    pub(crate) fn refused_reload(&self) -> Option<RefusedReload> {
        self.refused.lock().clone()
    }

    /// The server takes no more connections from now on.
    pub(crate) fn drains(&self) {
        self.draining.set(1);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get() == 1
    }
}

/// What the kernel says about the process.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Some(memory) = resident_memory() {
            write_gauge(
                &mut encoder,
                "process_resident_memory_bytes",
                "Resident memory of the supervisor, workers not counted",
                memory,
            )?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            write_gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors of the supervisor",
                files.count() as f64,
            )?;
        }
        Ok(())
    }
}

/// In bytes.
fn resident_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}
