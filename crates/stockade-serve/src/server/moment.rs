//! Metrics that other parts keep, read when somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use stockade_gateway::Gateway;
use stockade_state::SqliteStore;
use stockade_trace::TraceCounts;

use crate::directory::VersionCounts;
use crate::metrics::{unix, write_counter, write_gauge};
use crate::observe::Logs;
use crate::running::{Running, Snapshot};
use crate::tls::TlsStores;

/// Reads the gateway, the log and what runs.
pub(super) struct Moment {
    pub(super) gateway: Gateway,
    pub(super) logs: Arc<Logs>,
    pub(super) traces: Arc<TraceCounts>,
    pub(super) running: Snapshot,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").finish_non_exhaustive()
    }
}

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        gateway(encoder, &self.gateway)?;
        write_counter(
            encoder,
            "stockade_log_lines_dropped",
            "Lines of the log that came faster than they could be written",
            self.logs.log.dropped_in_all(),
        )?;
        if let Some(audit) = self.logs.audit.status() {
            write_counter(
                encoder,
                "stockade_audit_records_dropped",
                "Records of the audit log that came while it could not be written",
                audit.dropped,
            )?;
            write_gauge(
                encoder,
                "stockade_audit_writable",
                "1 while the audit log can be written",
                f64::from(u8::from(audit.failing.is_none())),
            )?;
        }
        let Some(running) = self.running.load_full() else {
            return Ok(());
        };
        if running.traced.is_some() {
            traces(encoder, &self.traces)?;
        }
        certificates(encoder, &running.tls)?;
        versions(encoder, &running)?;
        running
            .store
            .as_ref()
            .map_or(Ok(()), |store| state(encoder, store))
    }
}

fn traces(encoder: &mut DescriptorEncoder, counts: &TraceCounts) -> fmt::Result {
    write_counter(
        encoder,
        "stockade_trace_spans_exported",
        "Spans that the collector has accepted",
        counts.exported(),
    )?;
    let mut family = encoder.encode_descriptor(
        "stockade_trace_spans_dropped",
        "Spans that did not reach the collector",
        None,
        MetricType::Counter,
    )?;
    for (reason, count) in [
        ("queue_full", counts.overflowed()),
        ("export_failed", counts.failed()),
        ("rejected", counts.rejected()),
    ] {
        let labels = [("reason", reason)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gateway(encoder: &mut DescriptorEncoder, gateway: &Gateway) -> fmt::Result {
    let stats = gateway.stats();
    write_gauge(
        encoder,
        "stockade_connections_open",
        "Connections that are open",
        stats.connections as f64,
    )?;
    write_gauge(
        encoder,
        "stockade_gateway_requests_open",
        "Requests without a complete response",
        stats.requests as f64,
    )?;
    write_gauge(
        encoder,
        "stockade_gateway_websockets_open",
        "WebSockets of clients that are open",
        stats.sockets as f64,
    )
}

/// Requests of each version that has a share. The label `version` is a name that the server made of what operators uploaded,
/// and the series end with the share: there are never more than five for each instance.
fn versions(encoder: &mut DescriptorEncoder, running: &Running) -> fmt::Result {
    type Of = fn(&VersionCounts) -> u64;
    let families: [(&str, &str, Of); 2] = [
        (
            "stockade_version_requests",
            "Requests of clients that a version of an instance's code answered since it was started",
            VersionCounts::requests,
        ),
        (
            "stockade_version_errors",
            "Those of them with a status of 500 or more",
            VersionCounts::errors,
        ),
    ];
    if running.config.deployments.is_none() {
        return Ok(());
    }
    for (name, help, of) in families {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (instance, traffic) in &running.traffic {
            for site in traffic.sites().filter(|site| site.config.code.is_some()) {
                let labels = [
                    ("instance", instance.as_str()),
                    ("version", site.version.as_str()),
                ];
                ConstCounter::new(of(&site.counts)).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

/// Labels are the paths of the configuration.
fn certificates(encoder: &mut DescriptorEncoder, tls: &TlsStores) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "stockade_tls_certificate_not_after_seconds",
        "When a certificate ends, since 1970",
        None,
        MetricType::Gauge,
    )?;
    for (file, end) in tls.ends() {
        let labels = [("file", file)];
        ConstGauge::new(unix(end)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn state(encoder: &mut DescriptorEncoder, store: &SqliteStore) -> fmt::Result {
    let stats = store.stats();
    for (name, help, count) in [
        ("stockade_state_commits", "Commits answered", stats.commits),
        (
            "stockade_state_transactions",
            "Transactions of the database, each of one or more commits",
            stats.groups,
        ),
        (
            "stockade_state_failures",
            "Transactions of the database that failed",
            stats.failures,
        ),
    ] {
        write_counter(encoder, name, help, count)?;
    }
    for (name, help, value) in [
        (
            "stockade_state_pending_writes",
            "Commits that wait",
            stats.pending_writes as f64,
        ),
        (
            "stockade_state_pending_reads",
            "Reads that wait",
            stats.pending_reads as f64,
        ),
        (
            "stockade_state_file_bytes",
            "Size of the database and its log",
            stats.file_bytes as f64,
        ),
        (
            "stockade_state_writable",
            "1 while the database can be written",
            f64::from(u8::from(stats.writable)),
        ),
    ] {
        write_gauge(encoder, name, help, value)?;
    }
    Ok(())
}
