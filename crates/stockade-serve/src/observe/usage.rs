//! What is counted for each instance, API key and day, where that is configured.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use stockade_broker::{Action, Usage};
use stockade_capability::Note;
use stockade_gateway::{AccessRecord, Outcome};
use stockade_grants::{CallOutcome, CallRecord};
use stockade_http::Used;
use stockade_usage::{Counts, Ledger, Total, shown};

use super::Logs;
use crate::metrics::write_gauge;

/// Adds to the ledger that is open.
#[derive(Default)]
pub(crate) struct UsageRecorder {
    open: ArcSwapOption<Ledger>,
}

impl UsageRecorder {
    /// The ledger that is open.
    pub(crate) fn open(&self) -> Option<Arc<Ledger>> {
        self.open.load_full()
    }

    /// Whether a ledger is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load().is_some()
    }

    /// Goes on with another ledger. Returns the last one, whose end waits for the disk.
    pub(crate) fn replace(&self, next: Option<Arc<Ledger>>) -> Option<Arc<Ledger>> {
        self.open.swap(next)
    }

    /// Counts for an instance and the API key of this number.
    pub(crate) fn add(&self, instance: &Arc<str>, key: Option<u64>, more: &Counts) {
        if let Some(ledger) = &*self.open.load() {
            ledger.add(instance, key, more);
        }
    }
}

/// What a request of a client counts, at its end.
pub(crate) fn of_request(record: &AccessRecord) -> Counts {
    let (bytes_in, bytes_out) = record.unreported;
    let failed = record.status.is_server_error()
        || matches!(record.outcome, Outcome::BodyFailed | Outcome::TimedOut);
    Counts {
        requests: 1,
        errors: failed.into(),
        bytes_in,
        bytes_out,
        ..Counts::default()
    }
}

/// What a mirror counts.
pub(crate) fn of_mirror(used: &Used) -> Counts {
    Counts {
        cpu_ns: u64::try_from(used.cpu.as_nanos()).unwrap_or(u64::MAX),
        memory_byte_seconds: used.memory_byte_seconds,
        ..Counts::default()
    }
}

/// What an outbound request, WebSocket or connection counts, at its end. Folders are on this machine and count nothing.
pub(crate) fn of_egress(usage: &Usage) -> Option<Counts> {
    let (egress_sent, egress_received) = usage.unreported;
    (usage.action != Action::File).then(|| Counts {
        egress_requests: 1,
        egress_sent,
        egress_received,
        ..Counts::default()
    })
}

/// What an operation on the shared state counts.
pub(crate) fn of_state(state_sent: u64, state_received: u64) -> Counts {
    Counts {
        state_operations: 1,
        state_sent,
        state_received,
        ..Counts::default()
    }
}

/// What a call of a grant counts, at its end.
pub(crate) fn of_call(record: &CallRecord<'_>) -> Counts {
    let note = |wanted: &str| {
        let mut notes = record.notes.iter();
        notes.find_map(|(name, note)| match note {
            Note::Number(number) if *name == wanted => Some(*number),
            _ => None,
        })
    };
    // Also the amount of an invoice that is made is a note. A payment that may have been made was one.
    let pays = record.kind == "lightning"
        && record.method == "payInvoice"
        && !matches!(record.outcome, CallOutcome::Refused | CallOutcome::Error);
    let rows = note("rows").unwrap_or(0);
    let (grant_sent, grant_received) = record.unreported;
    Counts {
        grant_calls: 1,
        grant_sent,
        grant_received,
        grant_rows: rows.saturating_add(note("changes").unwrap_or(0)),
        grant_msat: note("msat").filter(|_| pays).unwrap_or(0),
        ..Counts::default()
    }
}

/// Reads the sums since the ledger was opened.
pub(crate) struct UsageCollector(pub(crate) Arc<Logs>);

impl fmt::Debug for UsageCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageCollector").finish_non_exhaustive()
    }
}

impl Collector for UsageCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(ledger) = self.0.usage.open() else {
            return Ok(());
        };
        let status = ledger.status();
        write_gauge(
            &mut encoder,
            "stockade_usage_writable",
            "1 while usage can be written",
            f64::from(u8::from(status.failing.is_none())),
        )?;
        write_gauge(
            &mut encoder,
            "stockade_usage_rows_waiting",
            "Rows of usage that wait for a disk that took none",
            status.waiting as f64,
        )?;
        let totals = ledger.totals();
        let totals: Vec<_> = totals
            .iter()
            .map(|total| (total, shown(&total.counts)))
            .collect();
        for (at, (name, _)) in shown(&Counts::default()).iter().enumerate() {
            let name = format!("stockade_usage_{name}");
            let mut family = encoder.encode_descriptor(
                &name,
                "What was used since the start, as `stockade usage` counts it",
                None,
                MetricType::Counter,
            )?;
            for (total, values) in &totals {
                let Some(value) = values.get(at).and_then(|(_, value)| value.as_f64()) else {
                    continue;
                };
                let counter = ConstCounter::new(value);
                let Total {
                    instance, caller, ..
                } = total;
                match caller.map(|caller| caller.text()) {
                    None => counter.encode(family.encode_family(&[("instance", &**instance)])?)?,
                    Some(key) => {
                        let labels = [("instance", &**instance), ("api_key", key.as_str())];
                        counter.encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}
