//! From figures to Prometheus's text.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use stockade_instance::InstanceStats;

use super::site::{Count, Counts, STATES, SiteMetrics, Sites};
use super::{Process, Source, unix};

/// Figures of all sites.
#[derive(Debug)]
pub(super) struct SiteCollector(pub(super) Arc<Sites>);

/// What a figure of a site is made of.
type Simple = (&'static str, &'static str, fn(&SiteMetrics) -> &Count);
type Worded = (
    &'static str,
    &'static str,
    &'static str,
    fn(&SiteMetrics) -> &Counts,
);
type Timed = (&'static str, &'static str, fn(&SiteMetrics) -> &Histogram);
type Now = (&'static str, &'static str, fn(&InstanceStats) -> f64);

const COUNTS: [Simple; 8] = [
    (
        "stockade_request_body_bytes",
        "Bytes of request bodies received from clients",
        |site| &site.received,
    ),
    (
        "stockade_response_body_bytes",
        "Bytes of response bodies sent to clients",
        |site| &site.sent,
    ),
    (
        "stockade_mirror_start_failures",
        "Mirrors that could not be started",
        |site| &site.start_failures,
    ),
    (
        "stockade_requests_retried",
        "Requests given to a second mirror because the first one ended",
        |site| &site.retries,
    ),
    (
        "stockade_uncaught_errors",
        "Exceptions and rejections that nothing in the guest caught",
        |site| &site.uncaught,
    ),
    (
        "stockade_guest_misbehaviour",
        "Times a mirror broke the protocol or went over one of its bounds",
        |site| &site.misbehaved,
    ),
    (
        "stockade_console_lines",
        "Lines of guests' console that were logged",
        |site| &site.console_lines,
    ),
    (
        "stockade_console_lines_dropped",
        "Lines of guests' console above the rate that is logged",
        |site| &site.console_dropped,
    ),
];

const WORDED: [Worded; 7] = [
    (
        "stockade_mirror_starts",
        "Mirrors started; cold: while a request waited for it",
        "start",
        |site| &site.starts,
    ),
    ("stockade_mirror_ends", "Mirrors ended", "reason", |site| {
        &site.ends
    }),
    (
        "stockade_requests_failed",
        "Requests without a response of the guest",
        "reason",
        |site| &site.failures,
    ),
    (
        "stockade_requests_refused",
        "Requests that found no room",
        "reason",
        |site| &site.refusals,
    ),
    ("stockade_cron_runs", "Scheduled runs", "outcome", |site| {
        &site.crons
    }),
    (
        "stockade_state_operations",
        "Operations of guests on their shared state",
        "outcome",
        |site| &site.state_operations,
    ),
    (
        "stockade_binding_calls",
        "Calls and requests of guests to other instances, assets and files",
        "outcome",
        |site| &site.binding_calls,
    ),
];

const TIMES: [Timed; 2] = [
    (
        "stockade_request_duration_seconds",
        "From a request's head to the end of its response",
        |site| &site.duration,
    ),
    (
        "stockade_mirror_start_seconds",
        "From the decision to start a mirror until it is ready",
        |site| &site.start_duration,
    ),
];

const NOW: [Now; 5] = [
    (
        "stockade_requests_in_flight",
        "Requests that mirrors handle now",
        |stats| stats.in_flight as f64,
    ),
    (
        "stockade_requests_queued",
        "Requests that wait for a mirror with room",
        |stats| stats.queued as f64,
    ),
    (
        "stockade_mirrors_wanted",
        "Mirrors that there should be",
        |stats| stats.wanted as f64,
    ),
    (
        "stockade_isolate_memory_bytes",
        "Memory of all mirrors: heap, ArrayBuffers, WebAssembly",
        |stats| {
            stats
                .mirrors
                .iter()
                .map(|mirror| mirror.memory as f64)
                .sum()
        },
    ),
    (
        "stockade_websockets_open",
        "WebSockets that guests hold",
        |stats| {
            stats
                .mirrors
                .iter()
                .map(|mirror| mirror.sockets as f64)
                .sum()
        },
    ),
];

impl Collector for SiteCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let sites: Vec<_> = self
            .0
            .all()
            .into_iter()
            .map(|site| (site.stats(), site))
            .collect();
        let mut family = encoder.encode_descriptor(
            "stockade_requests",
            "Requests answered, by method and class of status",
            None,
            MetricType::Counter,
        )?;
        for (_, site) in &sites {
            for (method, status, count) in site.requests().filter(|(.., count)| *count > 0) {
                let labels = [
                    ("instance", &*site.name),
                    ("method", method),
                    ("status", status),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, of) in COUNTS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (_, site) in &sites {
                let labels = [("instance", &*site.name)];
                ConstCounter::new(of(site).value()).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, label, of) in WORDED {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (_, site) in &sites {
                for (word, count) in of(site).all() {
                    let labels = [("instance", &*site.name), (label, word)];
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        for (name, help, of) in TIMES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (_, site) in &sites {
                let labels = [("instance", &*site.name)];
                of(site).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, of) in NOW {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (stats, site) in &sites {
                let labels = [("instance", &*site.name)];
                ConstGauge::new(of(stats)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "stockade_isolate_cpu_seconds",
            "CPU time of all mirrors there ever were",
            None,
            MetricType::Counter,
        )?;
        for (stats, site) in &sites {
            let labels = [("instance", &*site.name)];
            ConstCounter::new(stats.cpu.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "stockade_mirrors",
            "Mirrors there are",
            None,
            MetricType::Gauge,
        )?;
        for (stats, site) in &sites {
            for state in STATES {
                let labels = [("instance", &*site.name), ("state", state.name())];
                let count = stats.mirrors.iter().filter(|mirror| mirror.state == state);
                ConstGauge::new(count.count() as i64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Figures of the process.
#[derive(Debug)]
pub(super) struct ProcessCollector(pub(super) Arc<Process>);

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let process = &self.0;
        let mut family = encoder.encode_descriptor(
            "stockade_config_reload",
            "Times the configuration was read again",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in [
            ("ok", &process.reloads_done),
            ("error", &process.reloads_failed),
        ] {
            let labels = [("result", result)];
            ConstCounter::new(count.value()).encode(family.encode_family(&labels)?)?;
        }
        let last = *process.last_reload.lock();
        let mut gauges = vec![
            (
                "stockade_start_time_seconds",
                "When the server was started, since 1970",
                unix(process.started),
            ),
            (
                "stockade_draining",
                "1 while the server takes no more connections",
                f64::from(u8::from(process.draining.load(Ordering::Relaxed))),
            ),
            (
                "stockade_config_last_reload_successful",
                "1 unless the last reload was refused",
                f64::from(u8::from(last.is_none_or(|(done, _)| done))),
            ),
            (
                "stockade_config_last_reload_timestamp_seconds",
                "When the configuration was last read, since 1970",
                unix(last.map_or(process.started, |(_, at)| at)),
            ),
        ];
        if let Some(memory) = resident_memory() {
            gauges.push((
                "process_resident_memory_bytes",
                "Resident memory of the supervisor, workers not counted",
                memory,
            ));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            gauges.push((
                "process_open_fds",
                "Open file descriptors of the supervisor",
                files.count() as f64,
            ));
        }
        for (name, help, value) in gauges {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)?;
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

/// Figures that other crates keep.
pub(super) struct SourceCollector(pub(super) Vec<Source>);

impl std::fmt::Debug for SourceCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SourceCollector")
            .field(&self.0.len())
            .finish()
    }
}

impl Collector for SourceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        for reading in self.0.iter().flat_map(|source| source()) {
            let kind = if reading.counter {
                MetricType::Counter
            } else {
                MetricType::Gauge
            };
            let mut family = encoder.encode_descriptor(reading.name, reading.help, None, kind)?;
            for (labels, value) in reading.values {
                let family = family.encode_family(&labels)?;
                if reading.counter {
                    ConstCounter::new(value).encode(family)?;
                } else {
                    ConstGauge::new(value).encode(family)?;
                }
            }
        }
        Ok(())
    }
}
