//! What the calls of grants come to, as metrics and as lines of the log.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use stockade_audit::Record;
use stockade_capability::Note;
use stockade_grants::{CallAudit, CallMoved, CallOutcome, CallRecord, Grants};
use stockade_limits::LineLimiter;
use stockade_protocol::harmless;
use stockade_usage::Counts;
use tracing::Level;

use super::Logs;
use super::usage::of_call;
use crate::log::{self, event_at, milliseconds, target};
use crate::metrics::SECONDS;

/// Records of one grant that are logged in a second, of kinds whose records may be left out.
const LINES_PER_SECOND: u32 = 50;

/// Bytes of a note that are logged.
const MAX_NOTE: usize = 256;

/// A grant, by names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGrant {
    instance: Arc<str>,
    binding: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    instance: Arc<str>,
    binding: Arc<str>,
    kind: &'static str,
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    instance: Arc<str>,
    binding: Arc<str>,
    kind: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    instance: Arc<str>,
    binding: Arc<str>,
    kind: &'static str,
    reason: &'static str,
}

/// What one instance's grants have series and log lines of.
#[derive(Default)]
struct Known {
    called: HashSet<Called>,
    refused: HashSet<Refused>,
    lines: HashMap<OfGrant, LineLimiter>,
}

/// Counts calls, and writes their records to the log.
pub(crate) struct GrantMetrics {
    logs: Arc<Logs>,
    calls: Family<Called, Counter>,
    seconds: Family<OfGrant, Histogram>,
    bytes: Family<Moved, Counter>,
    refused: Family<Refused, Counter>,
    /// By instance, so that its series go with it.
    known: Mutex<HashMap<Arc<str>, Known>>,
}

impl GrantMetrics {
    pub(crate) fn register(registry: &mut Registry, logs: Arc<Logs>) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            logs,
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            bytes: Family::default(),
            refused: Family::default(),
            known: Mutex::default(),
        };
        registry.register(
            "stockade_capability_calls",
            "Calls of guests to what they were granted",
            metrics.calls.clone(),
        );
        registry.register(
            "stockade_capability_seconds",
            "From a call to its result",
            metrics.seconds.clone(),
        );
        registry.register(
            "stockade_capability_bytes",
            "Bytes of arguments (sent) and results (received) of such calls",
            metrics.bytes.clone(),
        );
        registry.register(
            "stockade_capability_refused",
            "Such calls that a bound or a policy refused",
            metrics.refused.clone(),
        );
        metrics
    }

    /// Forgets a site that is gone.
    pub(crate) fn forget(&self, site: &str) {
        let Some(known) = self.known.lock().remove(site) else {
            return;
        };
        for called in &known.called {
            self.calls.remove(called);
        }
        for refused in &known.refused {
            self.refused.remove(refused);
        }
        for grant in known.lines.keys() {
            self.seconds.remove(grant);
            for direction in ["sent", "received"] {
                self.bytes.remove(&moved(grant, direction));
            }
        }
    }

    fn count(&self, record: &CallRecord<'_>, grant: &OfGrant) -> Option<u64> {
        let called = Called {
            instance: Arc::clone(&grant.instance),
            binding: Arc::clone(&grant.binding),
            kind: grant.kind,
            method: record.method,
            outcome: record.outcome.as_str(),
        };
        self.calls.get_or_create(&called).inc();
        self.seconds
            .get_or_create(grant)
            .observe(record.took.as_secs_f64());
        for (direction, bytes) in [("sent", record.sent), ("received", record.received)] {
            self.bytes
                .get_or_create(&moved(grant, direction))
                .inc_by(bytes);
        }
        let mut known = self.known.lock();
        let known = known.entry(Arc::clone(&grant.instance)).or_default();
        if !known.called.contains(&called) {
            known.called.insert(called);
        }
        if let Some(reason) = record.reason {
            let refused = Refused {
                instance: Arc::clone(&grant.instance),
                binding: Arc::clone(&grant.binding),
                kind: grant.kind,
                reason,
            };
            self.refused.get_or_create(&refused).inc();
            known.refused.insert(refused);
        }
        let now = Instant::now();
        let lines = known
            .lines
            .entry(grant.clone())
            .or_insert_with(|| LineLimiter::new(now));
        lines.admit(LINES_PER_SECOND, now)
    }
}

fn moved(grant: &OfGrant, direction: &'static str) -> Moved {
    Moved {
        instance: Arc::clone(&grant.instance),
        binding: Arc::clone(&grant.binding),
        kind: grant.kind,
        direction,
    }
}

impl GrantMetrics {
    /// Adds a call to the audit log: those that were refused, and all of kinds whose every call is recorded.
    fn audit(&self, record: &CallRecord<'_>) {
        let fill = |audited: Record| {
            let audited = audited
                .number("mirror", record.mirror.into())
                .text("binding", record.binding)
                .text("kind", record.kind)
                .text("method", record.method)
                .text("outcome", record.outcome.as_str());
            let audited = match record.reason {
                Some(reason) => audited.text("reason", reason),
                None => audited,
            };
            (record.notes.iter()).fold(audited, |audited, (name, note)| match note {
                Note::Number(number) => audited.number(name, *number),
                Note::Text(text) => audited.text(name, &harmless(text, MAX_NOTE)),
            })
        };
        let audit = &self.logs.audit;
        if record.every_call {
            audit.record(|| fill(Record::new("grant").text("instance", record.instance)));
        } else if record.outcome == CallOutcome::Refused {
            audit.of_guest("grant", record.instance, fill);
        } else {
            audit.of_use("grant", record.instance, fill);
        }
    }
}

impl CallAudit for GrantMetrics {
    fn moved(&self, moved: &CallMoved<'_>) {
        let counts = Counts {
            grant_sent: moved.sent,
            grant_received: moved.received,
            ..Counts::default()
        };
        self.logs.usage.add(moved.instance, moved.key, &counts);
    }

    fn called(&self, record: &CallRecord<'_>) {
        let grant = OfGrant {
            instance: Arc::clone(record.instance),
            binding: Arc::clone(record.binding),
            kind: record.kind,
        };
        let admitted = self.count(record, &grant);
        let usage = &self.logs.usage;
        usage.add(record.instance, record.key, &of_call(record));
        self.audit(record);
        if admitted.is_none() && !record.every_call {
            return;
        }
        let level = match record.outcome {
            CallOutcome::Refused | CallOutcome::TimedOut => Level::WARN,
            CallOutcome::Ok | CallOutcome::Error | CallOutcome::Cancelled => Level::INFO,
        };
        let dropped_before = admitted.filter(|dropped| *dropped > 0);
        let notes = log::entries(record.notes.iter().map(|(name, note)| match note {
            Note::Number(number) => (*name, NoteShown::Number(*number)),
            Note::Text(text) => (*name, NoteShown::Text(harmless(text, MAX_NOTE))),
        }));
        macro_rules! write_to {
            ($target:expr) => {
                event_at!(
                    level,
                    name: "capability",
                    target: $target,
                    instance = &**record.instance,
                    mirror = record.mirror,
                    binding = &**record.binding,
                    kind = record.kind,
                    method = record.method,
                    outcome = record.outcome.as_str(),
                    reason = record.reason,
                    sent = record.sent,
                    received = record.received,
                    took_ms = milliseconds(record.took),
                    dropped_before,
                    "*" = notes.as_deref(),
                )
            };
        }
        if record.every_call {
            write_to!(target::RECORD);
        } else {
            write_to!(target::INSTANCE);
        }
    }
}

/// A note as the log has it.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum NoteShown {
    Number(u64),
    Text(String),
}

/// Reads how many handles are open.
pub(crate) struct HandleGauges(pub(crate) Arc<Grants>);

impl fmt::Debug for HandleGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleGauges").finish_non_exhaustive()
    }
}

impl Collector for HandleGauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "stockade_capability_handles",
            "What guests have open of what they were granted",
            None,
            MetricType::Gauge,
        )?;
        for open in self.0.open_handles() {
            let grant = OfGrant {
                instance: open.instance,
                binding: open.binding,
                kind: open.kind,
            };
            ConstGauge::new(open.open as f64).encode(family.encode_family(&grant)?)?;
        }
        Ok(())
    }
}
